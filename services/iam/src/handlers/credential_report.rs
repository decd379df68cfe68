//! The credential report (API Reference: GenerateCredentialReport, GetCredentialReport; IAM User
//! Guide, "Generate credential reports for your AWS account": the columns and their values).

use std::fmt::Write as _;
use std::time::Duration;

use wharf_core::{AccountId, ApiError, RequestContext, Timestamp};
use wharf_iam_api::{errors, types};
use wharf_state::Snapshot;

use crate::records::{
    AccessKey, Account, BY_OWNER, CredentialReport, PasswordPolicy, Status, UseRecord, User,
};
use crate::{Iam, find};

/// How long a report can be fetched.
const LIFETIME: Duration = Duration::from_secs(4 * 60 * 60);
const HEADER: &str = "user,arn,user_creation_time,password_enabled,password_last_used,password_last_changed,\
                      password_next_rotation,mfa_active,access_key_1_active,access_key_1_last_rotated,\
                      access_key_1_last_used_date,access_key_1_last_used_region,access_key_1_last_used_service,\
                      access_key_2_active,access_key_2_last_rotated,access_key_2_last_used_date,\
                      access_key_2_last_used_region,access_key_2_last_used_service,cert_1_active,\
                      cert_1_last_rotated,cert_2_active,cert_2_last_rotated";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A key as the report shows it.
struct Key {
    active: bool,
    rotated: Option<Timestamp>,
    used: Option<UseRecord>,
}

impl Iam {
    /// The report is made while the caller waits, anew each time.
    pub(super) async fn generate_credential_report(
        &self,
        context: &RequestContext,
        _input: (),
    ) -> Result<types::GenerateCredentialReportResponse, ApiError> {
        let content = self.credential_report(context);
        let account = context.account();
        self.change(|transaction| {
            transaction.put(CredentialReport { account, generated_at: context.now, content });
            Ok(())
        })
        .await?;
        Ok(types::GenerateCredentialReportResponse {
            state: Some(types::ReportStateType::Complete),
            description: None,
        })
    }

    pub(super) async fn get_credential_report(
        &self,
        context: &RequestContext,
        _input: (),
    ) -> Result<types::GetCredentialReportResponse, ApiError> {
        let report = self.store.snapshot().get::<CredentialReport>(&context.account()).ok_or_else(|| {
            errors::credential_report_not_present_exception(
                "The credential report does not exist. To generate a credential report, use \
                     GenerateCredentialReport.",
            )
        })?;
        if context.now.since(report.generated_at) > LIFETIME {
            return Err(errors::credential_report_expired_exception(
                "The most recent credential report has expired. To generate a new credential report, use \
                 GenerateCredentialReport.",
            ));
        }
        Ok(types::GetCredentialReportResponse {
            content: Some(report.content.clone().into_bytes()),
            generated_time: Some(report.generated_at),
            report_format: Some(types::ReportFormatType::TextCsv),
        })
    }

    fn credential_report(&self, context: &RequestContext) -> String {
        let snapshot = self.store.snapshot();
        let account = context.account();
        let record = snapshot.get::<Account>(&account);
        let policy = record.as_ref().and_then(|record| record.password_policy.as_ref());
        let mut text = HEADER.to_owned();
        let root_arn = format!("arn:{}:iam::{account}:root", context.partition());
        // Nobody knows when an account began here.
        let _ = write!(
            text,
            "\n<root_account>,{root_arn},N/A,not_supported,no_information,not_supported,not_supported,false"
        );
        let mut keys = self.keys(&snapshot, account, None);
        keys.extend(self.built_in_keys(&snapshot, account).into_iter().map(|key| Key {
            active: key.status == Status::Active,
            rotated: None,
            used: self.uses_of(&snapshot, account, &key.id),
        }));
        write_keys(&mut text, &keys);
        for user in find::all::<User, _>(&snapshot, account) {
            let arn = find::user_arn(context.partition(), &user);
            let _ = write!(text, "\n{},{arn},{}", user.name, time(user.created_at));
            write_password(&mut text, &user, policy);
            write_keys(&mut text, &self.keys(&snapshot, account, Some(&user.id)));
        }
        text
    }

    fn keys(&self, snapshot: &Snapshot, account: AccountId, user: Option<&str>) -> Vec<Key> {
        let mut keys: Vec<_> =
            snapshot.index::<AccessKey>(BY_OWNER, &AccessKey::owner_key(account, user)).collect();
        keys.sort_by_key(|key| key.created_at);
        keys.iter()
            .map(|key| Key {
                active: key.status == Status::Active,
                rotated: Some(key.changed_at),
                used: self.uses_of(snapshot, account, &key.id),
            })
            .collect()
    }
}

fn write_password(text: &mut String, user: &User, policy: Option<&PasswordPolicy>) {
    let Some(login) = &user.login else {
        text.push_str(",false,N/A,N/A,N/A,false");
        return;
    };
    let max_age = policy.and_then(|policy| policy.max_age);
    let next = max_age.map_or_else(|| "N/A".to_owned(), |days| time(login.changed_at.plus(DAY * days)));
    let _ = write!(text, ",true,no_information,{},{next},false", time(login.changed_at));
}

/// Two keys and two certificates; there are no signing certificates here.
fn write_keys(text: &mut String, keys: &[Key]) {
    let not_available = || "N/A".to_owned();
    for index in 0..2 {
        let Some(key) = keys.get(index) else {
            text.push_str(",false,N/A,N/A,N/A,N/A");
            continue;
        };
        let used = key.used.as_ref().map(|used| &used.last);
        let _ = write!(
            text,
            ",{},{},{},{},{}",
            key.active,
            key.rotated.map_or_else(not_available, time),
            used.map_or_else(not_available, |used| time(used.at)),
            used.map_or_else(not_available, |used| used.region.to_string()),
            used.map_or_else(not_available, |used| used.service.clone()),
        );
    }
    text.push_str(",false,N/A,false,N/A");
}

/// `2026-11-20T14:27:46+00:00`.
fn time(at: Timestamp) -> String {
    let text = at.to_iso8601();
    format!("{}+00:00", text.split('.').next().unwrap_or_default())
}
