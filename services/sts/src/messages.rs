//! Encoded authorization failure messages: why a request was denied, for those alone who may decode
//! it (`sts:DecodeAuthorizationMessage`). The message is sealed by the vault to the account in which
//! the request was denied.

use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::read::DeflateDecoder;
use wharf_contracts::DenialEncoder;
use wharf_core::AccountId;
use wharf_vault::{DataKey, Vault};

use crate::token::compress;

const PURPOSE: &str = "sts.authorization-message";
/// The longest message that STS decodes.
const MESSAGE_CHARACTERS_MAX: usize = 10_240;
/// The longest text that a message holds.
const DETAILS_BYTES_MAX: u64 = 256 * 1024;

pub struct AuthorizationMessages {
    key: DataKey,
}

impl AuthorizationMessages {
    pub fn new(vault: &Vault) -> Self {
        Self { key: vault.data_key(PURPOSE, "") }
    }

    /// The text of a message of this account.
    pub fn decode(&self, account: AccountId, message: &str) -> Option<String> {
        let sealed = URL_SAFE_NO_PAD.decode(message).ok()?;
        let packed = self.key.unseal(account.to_string().as_bytes(), &sealed).ok()?;
        let mut text = String::new();
        DeflateDecoder::new(&packed[..]).take(DETAILS_BYTES_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    }
}

impl DenialEncoder for AuthorizationMessages {
    fn encode(&self, account: AccountId, details: &str) -> Option<String> {
        if details.len() as u64 > DETAILS_BYTES_MAX {
            return None;
        }
        let sealed = self.key.seal(account.to_string().as_bytes(), &compress(details.as_bytes()));
        Some(URL_SAFE_NO_PAD.encode(sealed)).filter(|message| message.len() <= MESSAGE_CHARACTERS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wharf_core::SeededRng;

    use super::*;

    #[test]
    fn a_message_is_read_in_its_own_account_alone() {
        let messages = AuthorizationMessages::new(&Vault::ephemeral(Arc::new(SeededRng::new(1))));
        let account: AccountId = "123456789012".parse().unwrap();
        let encoded = messages.encode(account, "{\"allowed\":false}").unwrap();
        assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert_eq!(messages.decode(account, &encoded).as_deref(), Some("{\"allowed\":false}"));
        assert_eq!(messages.decode(AccountId::DEFAULT, &encoded), None);
        for index in 0..encoded.len() {
            let mut changed = encoded.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            assert_eq!(messages.decode(account, &String::from_utf8(changed).unwrap()), None);
        }
    }
}
