//! What to do about a user name and a password that a registry does not take, and about what may not pull.

use super::{Puller, Remedy, Situation, of_secret, run};

impl Situation<'_> {
    /// About a user name and a password that the registry refuses: it does not say why.
    pub(super) fn login(&self) -> Vec<Remedy> {
        let registry = self.login_server.resource_name();
        match self.puller {
            Puller::User(user) if user.eq_ignore_ascii_case(registry) => vec![
                run(
                    "see that the admin user is enabled",
                    format!("az acr show --name {registry} --query adminUserEnabled"),
                ),
                run(
                    "see its passwords, and put one into the Secret that spec.identity names",
                    format!("az acr credential show --name {registry}"),
                ),
            ],
            Puller::User(user) => vec![
                run(
                    "see that the token is enabled",
                    format!("az acr token show --name {user} --registry {registry} --query status"),
                ),
                run(
                    "or generate its second password, which replaces the second one that it has, and put it into the Secret \
                     that spec.identity names",
                    format!(
                        "az acr token credential generate --name {user} --registry {registry} --password2"
                    ),
                ),
            ],
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
