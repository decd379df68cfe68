//! What an account has once, and what is told of all of it.

mod support;

use rcgen::{CertificateParams, KeyPair};
use support::{ALLOW_ALL, account, house, refused};
use wharf_iam_api::{Iam as _, types};

#[tokio::test]
async fn an_alias_takes_the_place_of_the_one_before() {
    let house = house();
    let root = house.root();
    let create = |alias: &str| types::CreateAccountAliasRequest { account_alias: alias.into() };
    house.iam.create_account_alias(&root, create("first")).await.unwrap();
    house.iam.create_account_alias(&root, create("second")).await.unwrap();
    let list = house.iam.list_account_aliases(&root, Default::default()).await.unwrap();
    assert_eq!(list.account_aliases, ["second"]);
    let other = house.of(wharf_core::Principal::Root { account: "210987654321".parse().unwrap() });
    refused(
        house.iam.create_account_alias(&other, create("second")),
        "EntityAlreadyExists",
        "The account alias second already exists.",
    )
    .await;
    let delete = |alias: &str| types::DeleteAccountAliasRequest { account_alias: alias.into() };
    assert_eq!(
        house.iam.delete_account_alias(&root, delete("first")).await.unwrap_err().code,
        "NoSuchEntity"
    );
    house.iam.delete_account_alias(&root, delete("second")).await.unwrap();
    assert!(
        house.iam.list_account_aliases(&root, Default::default()).await.unwrap().account_aliases.is_empty()
    );
}

#[tokio::test]
async fn a_password_policy_is_set_whole_read_and_deleted() {
    let house = house();
    let root = house.root();
    let missing = "The Password Policy with domain name 123456789012 cannot be found.";
    refused(house.iam.get_account_password_policy(&root, ()), "NoSuchEntity", missing).await;
    let first = types::UpdateAccountPasswordPolicyRequest {
        require_symbols: Some(true),
        max_password_age: Some(90),
        ..Default::default()
    };
    house.iam.update_account_password_policy(&root, first).await.unwrap();
    let policy = house.iam.get_account_password_policy(&root, ()).await.unwrap().password_policy;
    assert_eq!((policy.minimum_password_length, policy.require_symbols), (Some(6), Some(true)));
    assert_eq!((policy.expire_passwords, policy.max_password_age), (Some(true), Some(90)));
    house.iam.update_account_password_policy(&root, Default::default()).await.unwrap();
    let policy = house.iam.get_account_password_policy(&root, ()).await.unwrap().password_policy;
    assert_eq!((policy.require_symbols, policy.max_password_age), (Some(false), None));
    house.iam.delete_account_password_policy(&root, ()).await.unwrap();
    refused(house.iam.delete_account_password_policy(&root, ()), "NoSuchEntity", missing).await;
}

#[tokio::test]
async fn the_summary_counts_what_is_there() {
    let house = house();
    let root = house.root();
    house.user("a").await;
    house.user("b").await;
    house.role("r").await;
    house.policy("p").await;
    let summary = house.iam.get_account_summary(&root, ()).await.unwrap().summary_map.unwrap();
    assert_eq!((summary["Users"], summary["Roles"], summary["Groups"]), (2, 1, 0));
    assert_eq!((summary["Policies"], summary["PolicyVersionsInUse"]), (1, 1));
    assert_eq!(summary["AccountAccessKeysPresent"], 1);
    let keys: Vec<&str> = types::SummaryKeyType::VALUES.to_vec();
    for key in summary.keys() {
        assert!(keys.contains(&key.as_str()), "{key}");
    }
}

#[tokio::test]
async fn the_details_show_everybody_page_by_page_and_by_filter() {
    let house = house();
    let root = house.root();
    house.user("alice").await;
    house.group("g").await;
    house.role("r").await;
    let arn = house.policy("p").await;
    let put = types::PutGroupPolicyRequest {
        group_name: "g".into(),
        policy_name: "inline".into(),
        policy_document: ALLOW_ALL.into(),
    };
    house.iam.put_group_policy(&root, put).await.unwrap();
    let attach = types::AttachUserPolicyRequest { user_name: "alice".into(), policy_arn: arn };
    house.iam.attach_user_policy(&root, attach).await.unwrap();
    let (mut marker, mut seen, mut pages) = (None, [0; 4], 0);
    loop {
        let input =
            types::GetAccountAuthorizationDetailsRequest { marker, max_items: Some(1), ..Default::default() };
        let page = house.iam.get_account_authorization_details(&root, input).await.unwrap();
        seen[0] += page.user_detail_list.unwrap().len();
        seen[1] += page.group_detail_list.unwrap().len();
        seen[2] += page.role_detail_list.unwrap().len();
        seen[3] += page.policies.unwrap().len();
        pages += 1;
        marker = page.marker;
        if marker.is_none() {
            break;
        }
    }
    assert_eq!((seen, pages), ([1; 4], 4));
    let only_users = types::GetAccountAuthorizationDetailsRequest {
        filter: Some(vec![types::EntityType::User]),
        ..Default::default()
    };
    let users = house.iam.get_account_authorization_details(&root, only_users).await.unwrap();
    assert!(users.group_detail_list.unwrap().is_empty() && users.policies.unwrap().is_empty());
    let alice = &users.user_detail_list.unwrap()[0];
    assert_eq!(alice.attached_managed_policies.as_ref().unwrap()[0].policy_name.as_deref(), Some("p"));
}

#[tokio::test]
async fn the_credential_report_has_a_line_for_everybody() {
    let house = house();
    let root = house.root();
    assert_eq!(house.iam.get_credential_report(&root, ()).await.unwrap_err().code, "ReportNotPresent");
    house.user("alice").await;
    let key = types::CreateAccessKeyRequest { user_name: Some("alice".into()) };
    house.iam.create_access_key(&root, key).await.unwrap();
    house.iam.generate_credential_report(&root, ()).await.unwrap();
    let report = house.iam.get_credential_report(&root, ()).await.unwrap();
    let text = String::from_utf8(report.content.unwrap()).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line.len() == 22), "{text}");
    let column = |name: &str| lines[0].iter().position(|column| *column == name).unwrap();
    assert_eq!(lines[1][column("user")], "<root_account>");
    assert_eq!(lines[1][column("access_key_1_active")], "true");
    assert_eq!(lines[2][column("user")], "alice");
    assert_eq!(lines[2][column("password_enabled")], "false");
    assert_eq!(lines[2][column("access_key_1_last_rotated")], "2023-11-14T22:13:20+00:00");
    assert_eq!(lines[2][column("access_key_1_last_used_date")], "N/A");
    assert_eq!(lines[2][column("access_key_2_active")], "false");
    house.clock.advance(std::time::Duration::from_secs(4 * 60 * 60 + 1));
    assert_eq!(house.iam.get_credential_report(&house.root(), ()).await.unwrap_err().code, "ReportExpired");
}

/// A certificate, its key and the certificate of its issuer, all PEM.
fn certificates() -> (String, String, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["example.com".to_owned()]).unwrap();
    let certificate = leaf.signed_by(&key, &issuer).unwrap();
    (certificate.pem(), key.serialize_pem(), ca_certificate.pem())
}

#[tokio::test]
async fn a_server_certificate_is_read_and_has_its_own_key() {
    let house = house();
    let root = house.root();
    let (body, key, chain) = certificates();
    let upload = |body: &str, key: &str, chain: Option<&str>| types::UploadServerCertificateRequest {
        server_certificate_name: "web".into(),
        certificate_body: body.into(),
        private_key: key.into(),
        certificate_chain: chain.map(str::to_owned),
        ..Default::default()
    };
    let other_key = KeyPair::generate().unwrap().serialize_pem();
    let (other_body, ..) = certificates();
    for (input, code) in [
        (upload("no certificate", &key, None), "MalformedCertificate"),
        (upload(&body, "no key", None), "MalformedCertificate"),
        (upload(&body, &key, Some(&other_body)), "MalformedCertificate"),
        (upload(&body, &other_key, None), "KeyPairMismatch"),
    ] {
        assert_eq!(house.iam.upload_server_certificate(&root, input).await.unwrap_err().code, code);
    }
    let made = house
        .iam
        .upload_server_certificate(&root, upload(&body, &key, Some(&chain)))
        .await
        .unwrap()
        .server_certificate_metadata
        .unwrap();
    assert_eq!(made.arn, format!("arn:aws:iam::{}:server-certificate/web", account()));
    let stored = house.store.snapshot().prefix::<wharf_iam::records::ServerCertificate>(b"").next().unwrap();
    assert!(!stored.sealed_private_key.windows(7).any(|window| window == b"PRIVATE"));
    let rename = types::UpdateServerCertificateRequest {
        server_certificate_name: "web".into(),
        new_server_certificate_name: Some("site".into()),
        new_path: Some("/cloudfront/".into()),
    };
    house.iam.update_server_certificate(&root, rename).await.unwrap();
    let get = types::GetServerCertificateRequest { server_certificate_name: "site".into() };
    let found = house.iam.get_server_certificate(&root, get).await.unwrap().server_certificate;
    assert_eq!((found.certificate_body, found.certificate_chain), (body, Some(chain)));
    let delete = types::DeleteServerCertificateRequest { server_certificate_name: "site".into() };
    house.iam.delete_server_certificate(&root, delete).await.unwrap();
    let list = house.iam.list_server_certificates(&root, Default::default()).await.unwrap();
    assert!(list.server_certificate_metadata_list.is_empty());
}
