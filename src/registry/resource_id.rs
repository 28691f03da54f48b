//! Azure resource IDs of registries.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::base::guid::is_guid;
use crate::registry::login_server::NAME_LENGTH;

/// The longest name of a resource group.
const MAX_RESOURCE_GROUP: usize = 90;

/// `/subscriptions/{sub}/resourceGroups/{rg}/providers/Microsoft.ContainerRegistry/registries/{name}`, which is
/// compared without case.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourceId {
    subscription: String,
    resource_group: String,
    registry: String,
}

/// The text is not the resource ID of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the resource ID of a registry has the form /subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/\
     Microsoft.ContainerRegistry/registries/{{name}}: copy it from `az acr show --name NAME --query id`"
)]
pub struct ResourceIdError;

impl ResourceId {
    /// Parses a resource ID, in any case.
    pub fn parse(text: &str) -> Result<Self, ResourceIdError> {
        let mut parts = text.strip_prefix('/').ok_or(ResourceIdError)?.split('/');
        let mut keyword = |keyword: &str| {
            parts
                .next()
                .filter(|part| part.eq_ignore_ascii_case(keyword))
                .and_then(|_| parts.next())
                .ok_or(ResourceIdError)
        };
        let subscription = keyword("subscriptions")?;
        let resource_group = keyword("resourceGroups")?;
        let provider = keyword("providers")?;
        let registry = keyword("registries")?;
        let is_whole = parts.next().is_none()
            && provider.eq_ignore_ascii_case("Microsoft.ContainerRegistry")
            && is_guid(subscription)
            && is_resource_group(resource_group)
            && NAME_LENGTH.contains(&registry.len())
            && registry.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_whole {
            return Err(ResourceIdError);
        }
        Ok(Self {
            subscription: subscription.to_owned(),
            resource_group: resource_group.to_owned(),
            registry: registry.to_owned(),
        })
    }

    /// The subscription.
    pub fn subscription(&self) -> &str {
        &self.subscription
    }

    /// The registry's name, as it was written.
    pub fn registry(&self) -> &str {
        &self.registry
    }
}

fn is_resource_group(text: &str) -> bool {
    !text.is_empty()
        && text.chars().count() <= MAX_RESOURCE_GROUP
        && !text.ends_with('.')
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '(' | ')'))
}

impl PartialEq for ResourceId {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            subscription,
            resource_group,
            registry,
        } = self;
        subscription.eq_ignore_ascii_case(&other.subscription)
            && resource_group.to_lowercase() == other.resource_group.to_lowercase()
            && registry.eq_ignore_ascii_case(&other.registry)
    }
}

impl Eq for ResourceId {}

impl TryFrom<String> for ResourceId {
    type Error = ResourceIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<ResourceId> for String {
    fn from(id: ResourceId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subscription,
            resource_group,
            registry,
        } = self;
        write!(
            f,
            "/subscriptions/{subscription}/resourceGroups/{resource_group}/providers/Microsoft.ContainerRegistry/registries/{registry}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590/resourceGroups/my-group/providers/Microsoft.ContainerRegistry/registries/MyRegistry";

    #[test]
    fn it_is_compared_without_case_and_kept_as_written() {
        let id = ResourceId::parse(ID).unwrap();
        assert_eq!(id.registry(), "MyRegistry");
        assert_eq!(id.subscription(), "0b1f6471-1bf0-4dda-aec3-cb9272f09590");
        assert_eq!(id.to_string(), ID);
        assert_eq!(ResourceId::parse(&ID.to_lowercase()), Ok(id.clone()));
        assert_eq!(ResourceId::parse(&ID.to_uppercase()), Ok(id));
    }

    #[test]
    fn another_subscription_group_or_registry_is_another() {
        let id = ResourceId::parse(ID).unwrap();
        for (part, other) in [
            ("0b1f6471", "1b1f6471"),
            ("my-group", "group"),
            ("MyRegistry", "Registry"),
        ] {
            let other = ResourceId::parse(&ID.replace(part, other)).unwrap();
            assert!(id != other, "{other}");
        }
        assert_eq!(String::from(id), ID);
    }

    #[test]
    fn a_resource_group_has_90_characters_at_most() {
        let with = |length: usize| ResourceId::parse(&ID.replace("my-group", &"g".repeat(length)));
        assert!(with(90).is_ok());
        assert_eq!(with(91), Err(ResourceIdError));
    }

    #[test]
    fn a_subscription_is_a_guid_and_no_more() {
        for more in ["-0", "-"] {
            let text = ID.replace("cb9272f09590", &format!("cb9272f09590{more}"));
            assert_eq!(ResourceId::parse(&text), Err(ResourceIdError), "{text}");
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "",
            "/",
            ID.trim_start_matches('/'),
            &format!("{ID}/"),
            &format!("{ID}/replications/eastus"),
            &format!(" {ID}"),
            &ID.replace("0b1f6471", "0b1f647"),
            &ID.replace("0b1f6471", "0b1f647z"),
            &ID.replace("ContainerRegistry", "Storage"),
            &ID.replace("MyRegistry", "abcd"),
            &ID.replace("MyRegistry", "my-registry"),
            &ID.replace("my-group", ""),
            &ID.replace("my-group", "group."),
            &ID.replace("/resourceGroups/my-group", ""),
        ] {
            assert_eq!(ResourceId::parse(text), Err(ResourceIdError), "{text}");
        }
    }
}
