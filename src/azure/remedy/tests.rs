//! Which codes have which remedies, and what no text may advise.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;

fn identities() -> [MintIdentity; 3] {
    let app = Application {
        tenant_id: "tenant".to_owned(),
        client_id: "client".to_owned(),
    };
    let origin = "Secret acr-sp, key password".to_owned();
    [
        MintIdentity::ClientSecret {
            app: app.clone(),
            secret: "secret".into(),
            origin: origin.clone(),
        },
        MintIdentity::ClientCertificate {
            app: app.clone(),
            pem: "pem".into(),
            origin,
        },
        MintIdentity::WorkloadIdentity {
            app,
            token_file: PathBuf::from("token"),
        },
    ]
}

fn of_code(identity: &MintIdentity, code: u32) -> String {
    let login_server = LoginServer::parse("myregistry-abc.azurecr.io").unwrap();
    at(&login_server, identity, code)
}

fn at(login_server: &LoginServer, identity: &MintIdentity, code: u32) -> String {
    let situation = Situation {
        login_server,
        resource_id: None,
        puller: Puller::Identity(identity),
        audience: None,
        repository: None,
        handover: Handover::InPlace,
    };
    let refusal = Refusal {
        status: 401,
        code: Some(code),
        text: None,
    };
    let remedies = situation.of_entra(&EntraError::Refused(refusal));
    format!("{remedies:?}")
}

#[test]
fn a_tenant_is_sought_at_its_clouds_own_authority() {
    let [identity, ..] = identities();
    let other = LoginServer::of_other_cloud("myregistry.azurecr.contoso.com").unwrap();
    let (azures, others) = (of_code(&identity, 90_002), at(&other, &identity, 90_002));
    for (text, named, other) in [
        (azures, "AZURE_AUTHORITY_HOST", "--other-cloud-authority"),
        (others, "--other-cloud-authority", "AZURE_AUTHORITY_HOST"),
    ] {
        assert!(text.contains(named) && !text.contains(other), "{text}");
    }
}

#[test]
fn codes_about_the_identity_try_no_other_audience() {
    for code in [
        50_013, 50_027, 70_021, 90_002, 700_016, 700_023, 700_024, 700_027, 700_211, 700_212, 700_213,
        5_000_131, 5_002_738, 7_000_112, 7_000_215, 7_000_222,
    ] {
        let fault = EntraFault::of_code(code).unwrap();
        assert!(fault.is_about_the_identity(), "{code}");
        for identity in identities() {
            assert_ne!(of_code(&identity, code), "[]", "{code} has a remedy");
        }
    }
    for code in [500_011, 500_014, 650_052, 53_003] {
        assert!(
            !EntraFault::of_code(code).unwrap().is_about_the_identity(),
            "{code}"
        );
    }
    assert_eq!(EntraFault::of_code(1), None);
}

#[test]
fn assertions_have_remedies_by_who_signs_them() {
    let [_, certificate, federated] = identities();
    for (identity, code, expected) in [
        (&certificate, 700_027, "--append --cert @certificate.pem"),
        (&certificate, 50_013, "--append --cert @certificate.pem"),
        (&certificate, 5_002_738, "--append --create-cert"),
        (
            &certificate,
            5_002_738,
            "put the file's content into Secret acr-sp",
        ),
        (&federated, 5_002_738, "RSA key"),
        (&federated, 50_013, "/openid/v1/jwks"),
        (&federated, 5_000_131, "federated-credential list --id client"),
        (&federated, 700_211, "federated-credential create --id client"),
        (&federated, 700_024, "AZURE_FEDERATED_TOKEN_FILE"),
    ] {
        let remedies = of_code(identity, code);
        assert!(remedies.contains(expected), "{code}: {remedies}");
    }
}

#[test]
fn the_codes_of_the_manual_are_those_with_a_remedy() {
    let manual = include_str!("../../../docs/operations.md");
    let codes = manual.split("`AADSTS").skip(1).map(|after| {
        let (code, _) = after.split_once('`').unwrap();
        code.parse::<u32>().unwrap()
    });
    let described: BTreeSet<_> = codes.collect();
    for code in &described {
        assert!(EntraFault::of_code(*code).is_some(), "{code}");
    }
    let known = (0..9_999_999).filter(|code| EntraFault::of_code(*code).is_some());
    let known: BTreeSet<_> = known
        .filter(|code| !(53_000..=53_999).contains(code) || *code == 53_003)
        .collect();
    assert_eq!(known, described);
}

#[test]
fn a_message_names_its_fault() {
    for (text, fault) in [
        (
            "Entra ID refused: AADSTS7000215: Invalid",
            Some(EntraFault::Secret),
        ),
        ("AADSTS7000222", Some(EntraFault::Secret)),
        ("AADSTS70002150: Invalid", None),
        ("AADSTS: Invalid", None),
        ("HTTP 401", None),
    ] {
        assert_eq!(EntraFault::named_in(text), fault, "{text}");
    }
}

/// Every text of a directory, without what is built.
fn texts(directory: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                texts(&path, found);
            }
        } else if let Ok(text) = fs::read_to_string(&path) {
            found.push((path, text));
        }
    }
}

#[test]
fn resets_are_advised_with_append_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for directory in ["src", "docs", "manifests", "tests", "examples", "packaging"] {
        texts(&root.join(directory), &mut found);
    }
    let readme = root.join("README.md");
    found.push((readme.clone(), fs::read_to_string(readme).unwrap()));
    let command = ["az ad app credential", "reset"].join(" ");
    let other = ["az ad sp credential", "reset"].join(" ");
    let mut count = 0;
    for (path, text) in found {
        // A command may go on over a line that ends in a backslash.
        let text = text.replace("\\\n", " ");
        assert!(
            !text.contains(&other),
            "{}: one form of the command is enough",
            path.display()
        );
        for (_, after) in text
            .match_indices(&command)
            .map(|(at, found)| text.split_at(at + found.len()))
        {
            let rest = after.split(['\n', '`', '"']).next().unwrap();
            assert!(
                rest.contains("--append"),
                "{}: {command}{rest} deletes every other credential of the application",
                path.display()
            );
            count += 1;
        }
    }
    assert!(count > 5, "{count} resets were found");
}

#[test]
fn remedies_stand_in_no_other_folder() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for directory in ["azure", "check", "sync", "audit"] {
        texts(&root.join("src").join(directory), &mut found);
    }
    found.retain(|(path, _)| !path.components().any(|part| part.as_os_str() == "remedy"));
    assert!(found.len() > 50, "{} files", found.len());
    for (path, text) in found {
        for advice in [
            "az acr ",
            "az ad ",
            "az role ",
            "az vmss ",
            "az account ",
            "look for a proxy",
        ] {
            assert!(!text.contains(advice), "{}: {advice}", path.display());
        }
    }
}

#[test]
fn a_user_that_may_be_a_password_is_not_named() {
    let login_server = LoginServer::parse("myregistry.azurecr.io").unwrap();
    let advice = |user: &str, repository| {
        let situation = Situation {
            login_server: &login_server,
            resource_id: None,
            puller: Puller::User(user),
            audience: None,
            repository,
            handover: Handover::InPlace,
        };
        format!("{:?} {:?}", situation.login(), situation.pull())
    };
    for repository in [None, Some("team/app")] {
        for name in [
            "puller",
            "ci-pull-2",
            "Team-A-puller",
            "a-long-name-of-a-token-of-2026",
            "a1b2c",
        ] {
            assert!(
                advice(name, repository).contains(&format!("--name {name} ")),
                "{name}"
            );
        }
        let longest = "a".repeat(51);
        for password in [
            "9dKq+3vN/fT0hYw2Xr7LzB5cPm8sJg1A",
            "9dKqA3vNbfT0hYw2Xr7LzB5cPm8sJg1A",
            "Ab1-Ab1-Ab1-Ab1-Ab1-Ab1",
            "Long-Words-With-2026",
            "0123456789abcdef0123456789abcdef",
            "1b4e28ba-2fa1-11d2-883f-0016d3cca427",
            "abc~Q.abc",
            "p w",
            "four",
            "`id`",
            "$(reboot)",
            "",
            &longest,
        ] {
            let advice = advice(password, repository);
            assert!(advice.contains("--name TOKEN-NAME "), "{advice}");
            assert!(password.is_empty() || !advice.contains(password), "{advice}");
        }
    }
}

#[test]
fn each_service_account_has_a_federated_credential_of_its_own() {
    let named = |subject: &str| {
        let command = federated_credential("https://issuer.example", subject, "api://x");
        let words: Vec<_> = command.split(' ').map(str::to_owned).collect();
        words.get(5).cloned().unwrap_or_default()
    };
    assert_eq!(named("system:serviceaccount:shop:puller"), "pullpass-shop-puller");
    assert_eq!(named("system:serviceaccount:shop:a.b"), "pullpass-shop-a-b");
    assert_eq!(
        named(&format!("system:serviceaccount:shop:{}", "a".repeat(253))).len(),
        120
    );
}
