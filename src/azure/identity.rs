//! Who asks for a credential, with everything that it takes to ask.

use std::path::PathBuf;

pub use crate::api::identity::{Application, ManagedIdentity};
use crate::base::secret_text::SecretText;

/// An identity of Entra ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MintIdentity {
    /// An application with a client secret.
    ClientSecret {
        /// The application.
        app: Application,
        /// The secret's value.
        secret: SecretText,
        /// Where the secret is kept, in words for the person who has to replace it: `Secret acr-sp, key password`.
        origin: String,
    },
    /// An application with a client certificate.
    ClientCertificate {
        /// The application.
        app: Application,
        /// The certificate, its chain if need be, and its private key, all in PEM.
        pem: SecretText,
        /// Where they are kept, in words for the person who has to replace them.
        origin: String,
    },
    /// An application that trusts a token which somebody else, mostly the cluster, has signed.
    WorkloadIdentity {
        /// The application.
        app: Application,
        /// The file with the token, read each time, since it is replaced while we run.
        token_file: PathBuf,
    },
    /// An application that trusts a token which the cluster has signed for a ServiceAccount.
    FederatedToken {
        /// The application.
        app: Application,
        /// The token.
        token: SecretText,
        /// Whose it is: `system:serviceaccount:NAMESPACE:NAME`.
        subject: String,
    },
    /// The identity of the machine.
    ManagedIdentity(ManagedIdentity),
}

impl MintIdentity {
    /// The application of the identity; only its endpoint knows that of a managed identity.
    pub fn app(&self) -> Option<&Application> {
        match self {
            Self::ClientSecret { app, .. }
            | Self::ClientCertificate { app, .. }
            | Self::WorkloadIdentity { app, .. }
            | Self::FederatedToken { app, .. } => Some(app),
            Self::ManagedIdentity(_) => None,
        }
    }
}
