//! What to do about a user name and a password that a registry does not take, and about what may not pull.

use std::ops::RangeInclusive;

use super::{Puller, Situation, of_secret};
use crate::base::remedy::{Remedy, run};

/// Stands for the name of a token that is not told.
const TOKEN_NAME: &str = "TOKEN-NAME";
/// How long the name of a token may be.
const TOKEN_NAME_LENGTH: RangeInclusive<usize> = 5..=50;
/// From which length on a text may be a generated password.
const PASSWORD_LENGTH: usize = 20;

/// The name of a token as a status, an Event and a log may have it. It is a value of a Secret whose keys may be mixed up: what
/// is no name of a token, or may as well be a password, is not told.
pub(super) fn token_name(user: &str) -> &str {
    let is_name = TOKEN_NAME_LENGTH.contains(&user.len())
        && user
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_name && !may_be_a_password(user) {
        user
    } else {
        TOKEN_NAME
    }
}

/// Whether a text is as long and as mixed as generated passwords are. Names that people give consist of words and numbers.
fn may_be_a_password(text: &str) -> bool {
    let has = |is_of: fn(&u8) -> bool| text.bytes().any(|byte| is_of(&byte));
    let is_mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit);
    let is_of_words = text.split('-').all(|word| {
        word.bytes().all(|byte| byte.is_ascii_digit()) || !word.bytes().any(|byte| byte.is_ascii_digit())
    });
    text.len() >= PASSWORD_LENGTH && (is_mixed || !is_of_words)
}

impl Situation<'_> {
    /// About a user name and a password that the registry refuses: it does not say why.
    pub(super) fn login(&self) -> Vec<Remedy> {
        let registry = self.login_server.resource_name();
        match self.puller {
            Puller::User(user) if user.eq_ignore_ascii_case(registry) => vec![
                run(
                    "check that the admin user is enabled",
                    format!("az acr show --name {registry} --query adminUserEnabled"),
                ),
                run(
                    "see its passwords, and put one into the Secret that spec.identity names",
                    format!("az acr credential show --name {registry}"),
                ),
            ],
            Puller::User(user) => {
                let user = token_name(user);
                vec![
                    run(
                        "check that the token is enabled",
                        format!("az acr token show --name {user} --registry {registry} --query status"),
                    ),
                    run(
                        "or generate its second password, which replaces the second one that it has, and put it into the Secret \
                     that spec.identity names",
                        format!(
                            "az acr token credential generate --name {user} --registry {registry} --password2"
                        ),
                    ),
                ]
            }
            Puller::Identity(identity) => {
                let mut remedies = match identity.app() {
                    Some(app) => of_secret(self.login_server, app, self.handover, self.origin()),
                    None => Vec::new(),
                };
                remedies.push(run(
                    "if the client secret is right, give the identity a role on the registry",
                    self.assignment("AcrPull"),
                ));
                remedies.push(self.reader());
                remedies
            }
            Puller::Unknown => Vec::new(),
        }
    }

    /// About a credential that the registry gave or takes, and that may not pull from a repository.
    pub(crate) fn denied_pull(&self) -> Vec<Remedy> {
        let role = match self.puller {
            Puller::Identity(_) => Some(run(
                "give the identity the role AcrPull",
                self.assignment("AcrPull"),
            )),
            Puller::User(_) | Puller::Unknown => None,
        };
        role.into_iter().chain(self.pull()).collect()
    }
}
