//! The rules that the API server holds a reference to a registry to: the same for each custom resource that has one.

use kube::core::Rule;

/// A registry is named, in one way or the other.
pub(super) fn is_named() -> Rule {
    Rule::new("has(self.loginServer) || has(self.resourceId)")
        .message("set spec.loginServer, for instance myregistry.azurecr.io, or spec.resourceId")
}

/// The cloud, if it is named, is that of the login server.
pub(super) fn cloud_fits() -> Rule {
    Rule::new(
        "!has(self.cloud) || self.cloud == 'Other' || !has(self.loginServer) || self.loginServer.endsWith({'Public': '.azurecr.io', 'USGovernment': '.azurecr.us', 'China': '.azurecr.cn'}[self.cloud])"
    )
    .message("spec.cloud does not fit the suffix of spec.loginServer: leave spec.cloud out, or correct it")
}

/// The login server is one of Azure's own clouds, unless it is said to be of another one.
pub(super) fn login_server_is_azures() -> Rule {
    Rule::new("(has(self.cloud) && self.cloud == 'Other') || !has(self.loginServer) || size(self.loginServer) <= 75 && self.loginServer.matches('^[A-Za-z0-9]{5,50}(-[A-Za-z0-9]+)?[.]azurecr[.](io|us|cn)$')")
        .message("must be the host of a registry that ends in .azurecr.io, .azurecr.us or .azurecr.cn, without scheme, port or path, unless spec.cloud is Other")
        .field_path(".loginServer")
}

/// The login server of another cloud is a host that can't be one of Azure's, nor Docker Hub.
pub(super) fn login_server_is_of_other_cloud() -> Rule {
    Rule::new("!has(self.cloud) || self.cloud != 'Other' || (has(self.loginServer) && self.loginServer.matches('^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?[.])+[a-z]([-a-z0-9]{0,61}[a-z0-9])?$') && !self.loginServer.matches('(^|[.])(azurecr[.](io|us|cn)|docker[.]io)$'))")
        .message("with spec.cloud Other, spec.loginServer must be a DNS name in lower case, without scheme, port or path, that does not end in .azurecr.io, .azurecr.us or .azurecr.cn, nor in docker.io")
        .field_path(".loginServer")
}

/// The resource ID is one of a registry.
pub(super) fn is_resource_id() -> Rule {
    Rule::new("self.matches('(?i)^/subscriptions/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/resourceGroups/[^/]{1,90}/providers/Microsoft[.]ContainerRegistry/registries/[a-z0-9]{5,50}$')")
        .message("must be /subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.ContainerRegistry/registries/{name}")
}

/// The audience is a URL that Entra ID can be asked for.
pub(super) fn is_audience() -> Rule {
    Rule::new("self.matches('^https://[A-Za-z0-9.-]+$')")
        .message("must be an https URL without a path, for instance https://containerregistry.azure.net")
}
