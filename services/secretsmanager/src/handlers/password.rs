//! GetRandomPassword.

use wharf_core::{ApiError, RequestContext};
use wharf_secretsmanager_api::{errors, types};

use crate::SecretsManager;
use crate::plan::password::{self, CharacterType, LENGTH_DEFAULT, PasswordError, RequireEach, Rules};

impl SecretsManager {
    pub(super) async fn get_random_password(
        &self,
        _context: &RequestContext,
        input: types::GetRandomPasswordRequest,
    ) -> Result<types::GetRandomPasswordResponse, ApiError> {
        let types = [
            (CharacterType::Uppercase, input.exclude_uppercase != Some(true)),
            (CharacterType::Lowercase, input.exclude_lowercase != Some(true)),
            (CharacterType::Numbers, input.exclude_numbers != Some(true)),
            (CharacterType::Punctuation, input.exclude_punctuation != Some(true)),
            (CharacterType::Space, input.include_space == Some(true)),
        ];
        let rules = Rules {
            // The model has checked the range.
            length: input
                .password_length
                .and_then(|length| usize::try_from(length).ok())
                .unwrap_or(LENGTH_DEFAULT),
            excluded: input.exclude_characters.unwrap_or_default(),
            types: types.into_iter().filter(|(_, wanted)| *wanted).map(|(kind, _)| kind).collect(),
            require_each: if input.require_each_included_type == Some(false) {
                RequireEach::No
            } else {
                RequireEach::Yes
            },
        };
        let password = password::generate(&rules, &*self.rng).map_err(|error| match error {
            PasswordError::TooShort => errors::invalid_parameter_exception(
                "Password length is too short based on the required types.",
            ),
            PasswordError::NoCharacters => {
                errors::invalid_parameter_exception("No characters are left to make a password of.")
            }
        })?;
        Ok(types::GetRandomPasswordResponse { random_password: Some(password) })
    }
}
