//! The Azure clouds: where their Entra ID, registries and resource manager are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An Azure cloud: where its Entra ID, its registries and its resource manager are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Cloud {
    /// The worldwide cloud.
    Public,
    /// Azure Government.
    USGovernment,
    /// Azure operated by 21Vianet.
    China,
}

impl Cloud {
    /// Every cloud, in the order in which they are tried and listed.
    pub const ALL: [Self; 3] = [Self::Public, Self::USGovernment, Self::China];

    /// What every login server of this cloud ends in, without the leading dot.
    pub fn login_server_suffix(self) -> &'static str {
        match self {
            Self::Public => "azurecr.io",
            Self::USGovernment => "azurecr.us",
            Self::China => "azurecr.cn",
        }
    }

    /// The host of Entra ID.
    pub fn authority_host(self) -> &'static str {
        match self {
            Self::Public => "login.microsoftonline.com",
            Self::USGovernment => "login.microsoftonline.us",
            Self::China => "login.chinacloudapi.cn",
        }
    }

    /// The audience of Azure Resource Manager, which older registries take for their own.
    pub fn resource_manager_audience(self) -> &'static str {
        match self {
            Self::Public => "https://management.azure.com",
            Self::USGovernment => "https://management.usgovcloudapi.net",
            Self::China => "https://management.chinacloudapi.cn",
        }
    }
}
