//! Credentials of roles for what Wharf runs, as services of AWS assume roles for their resources.

use wharf_contracts::{CredentialVendor, VendError, VendRequest, Vended};
use wharf_core::SessionOrigin;
use wharf_policy::Keys;

use crate::Sts;
use crate::handlers::new_session;
use crate::role::{RoleArn, session_of};
use crate::token::Issued;
use crate::trust::{self, Asked, Stranger};

impl CredentialVendor for Sts {
    fn vend(&self, request: &VendRequest<'_>) -> Result<Vended, VendError> {
        let arn = RoleArn::parse(request.role_arn).map_err(|_| VendError::Arn)?;
        let role = self.role(&arn).ok_or(VendError::NoRole)?;
        let mut keys = Keys::new().with("sts:RoleSessionName", request.session_name);
        if let Some(source) = request.source_arn {
            keys = keys.with("aws:SourceArn", source);
        }
        if let Some(account) = request.source_account {
            keys = keys.with("aws:SourceAccount", account.to_string());
        }
        let asked = Asked {
            role_arn: request.role_arn,
            owner: role.account,
            trust_policy: &role.trust_policy,
            stranger: Stranger::Service(request.service),
            keys: &keys,
        };
        trust::allows(&asked, &["sts:AssumeRole"]).map_err(|_| VendError::NotTrusted)?;
        let principal = session_of(&role, request.session_name);
        let session = new_session(
            request.now,
            request.lifetime,
            SessionOrigin::Service,
            request.role_arn.to_owned(),
            role.id,
        );
        let Issued { access_key_id, secret_access_key, session_token, expires_at } =
            self.tokens.issue(&principal, &session, 0).map_err(|_| VendError::TooLarge)?;
        Ok(Vended { access_key_id, secret_access_key, session_token, expires_at, principal, session })
    }
}
