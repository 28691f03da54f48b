//! The Azure clouds and the names that differ between them.

use serde::{Deserialize, Serialize};

/// The audience that a container registry accepts in every cloud.
///
/// Source: Microsoft Learn, "Disable authentication as ARM template".
pub const REGISTRY_AUDIENCE: &str = "https://containerregistry.azure.net";

/// An Azure cloud.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cloud {
    /// The public cloud.
    #[default]
    Public,
    /// Azure Government.
    USGovernment,
    /// Azure operated by 21Vianet.
    China,
    /// None of Azure's own: an air-gapped cloud, or an Azure Stack.
    Other,
}

impl Cloud {
    /// Every cloud.
    pub const ALL: [Self; 4] = [Self::Public, Self::USGovernment, Self::China, Self::Other];

    /// The host of the cloud's Entra authority.
    ///
    /// Source: Microsoft Learn, "National clouds", Microsoft Entra authentication endpoints.
    pub fn authority(self) -> &'static str {
        match self {
            Self::Public => "login.microsoftonline.com",
            Self::USGovernment => "login.microsoftonline.us",
            Self::China => "login.chinacloudapi.cn",
            Self::Other => "login.contoso.example",
        }
    }

    /// The audience of the cloud's Azure Resource Manager.
    ///
    /// Source: Azure CLI, `azure.cli.core.cloud`.
    pub fn arm_audience(self) -> &'static str {
        match self {
            Self::Public => "https://management.azure.com",
            Self::USGovernment => "https://management.usgovcloudapi.net",
            Self::China => "https://management.chinacloudapi.cn",
            Self::Other => "https://management.contoso.example",
        }
    }

    /// The cloud whose Entra authority has this host.
    pub(crate) fn by_authority(host: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cloud| cloud.authority() == host)
    }

    /// The cloud that a login server's suffix belongs to; unknown suffixes count as public.
    pub(crate) fn of_login_server(host: &str) -> Self {
        if host.ends_with(".azurecr.us") {
            Self::USGovernment
        } else if host.ends_with(".azurecr.cn") {
            Self::China
        } else if host.ends_with(".azurecr.contoso.example") {
            Self::Other
        } else {
            Self::Public
        }
    }
}
