//! What an account has once: its alias (API Reference: CreateAccountAlias, ListAccountAliases,
//! DeleteAccountAlias).

use wharf_core::{ApiError, RequestContext};
use wharf_iam_api::{errors, types};
use wharf_state::{Key as _, Transaction};

use crate::Iam;
use crate::pages::page;
use crate::records::{Account, BY_ALIAS};

/// The account's record, or a new one.
pub fn account_of(transaction: &Transaction<'_>, context: &RequestContext) -> Account {
    let id = context.account();
    transaction.get::<Account>(&id).map_or_else(|| Account::new(id), |record| Account::clone(&record))
}

impl Iam {
    /// An alias takes the place of the one before it. It is unique among all accounts here.
    pub(super) async fn create_account_alias(
        &self,
        context: &RequestContext,
        input: types::CreateAccountAliasRequest,
    ) -> Result<(), ApiError> {
        self.change(|transaction| {
            let taken = transaction.index::<Account>(BY_ALIAS, &input.account_alias.to_bytes()).next();
            if taken.is_some() {
                return Err(errors::entity_already_exists_exception(format!(
                    "The account alias {} already exists.",
                    input.account_alias
                )));
            }
            let mut account = account_of(transaction, context);
            account.alias = Some(input.account_alias);
            transaction.put(account);
            Ok(())
        })
        .await
    }

    pub(super) async fn list_account_aliases(
        &self,
        context: &RequestContext,
        input: types::ListAccountAliasesRequest,
    ) -> Result<types::ListAccountAliasesResponse, ApiError> {
        let account = self.store.snapshot().get::<Account>(&context.account());
        let alias = account.and_then(|account| account.alias.clone());
        let page = page(alias, Clone::clone, input.marker.as_deref(), input.max_items)?;
        Ok(types::ListAccountAliasesResponse {
            account_aliases: page.items,
            marker: page.marker,
            is_truncated: page.is_truncated,
        })
    }

    pub(super) async fn delete_account_alias(
        &self,
        context: &RequestContext,
        input: types::DeleteAccountAliasRequest,
    ) -> Result<(), ApiError> {
        self.change(|transaction| {
            let mut account = account_of(transaction, context);
            if account.alias.as_ref() != Some(&input.account_alias) {
                return Err(errors::no_such_entity_exception(format!(
                    "The account alias with name {} cannot be found.",
                    input.account_alias
                )));
            }
            account.alias = None;
            transaction.put(account);
            Ok(())
        })
        .await
    }
}
