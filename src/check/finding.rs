//! The results of steps.

use std::time::Duration;

use serde::Serialize;

use crate::http::Barrier;

/// A step of a check, in the order in which they are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckStep {
    /// The registry's name has an address.
    Dns,
    /// A connection, with a certificate that is trusted.
    Tls,
    /// `/v2/` asks for a token of the registry itself.
    Challenge,
    /// The regional endpoint or the custom domain that was named, if one was: it is the registry's.
    Endpoint,
    /// A token of Entra ID.
    Entra,
    /// The registry exchanges it for a refresh token.
    Exchange,
    /// A token that allows pulling from the repository.
    AccessToken,
    /// A manifest of the repository.
    Manifest,
    /// Where the registry has clients get layers.
    Layers,
    /// This machine's clock agrees with the registry's.
    Clock,
    /// In the cluster: the spec of the AcrRegistry.
    Spec,
    /// In the cluster: a controller has looked at it.
    Controller,
    /// In the cluster: the condition `Ready`.
    Ready,
    /// In the cluster: the minted credential.
    Credential,
    /// In the cluster: the pull secrets made of it.
    PullSecrets,
    /// In the cluster: the condition `PullAuthorized`.
    PullAuthorized,
    /// In the cluster: the API server's own admission policies.
    Policies,
    /// In the cluster: the condition `CustomDomains`.
    CustomDomains,
}

/// What a finding is about.
pub trait Step: Copy + Serialize {
    /// What a person reads.
    fn title(self) -> &'static str;
}

impl Step for CheckStep {
    fn title(self) -> &'static str {
        match self {
            Self::Dns => "DNS",
            Self::Tls => "TCP and TLS",
            Self::Challenge => "Challenge",
            Self::Endpoint => "Endpoint",
            Self::Entra => "Entra ID token",
            Self::Exchange => "Exchange",
            Self::AccessToken => "Access token",
            Self::Manifest => "Manifest",
            Self::Layers => "Layers",
            Self::Clock => "Clock",
            Self::Spec => "Spec",
            Self::Controller => "Controller",
            Self::Ready => "Ready",
            Self::Credential => "Credential",
            Self::PullSecrets => "Pull secrets",
            Self::PullAuthorized => "Pull rights",
            Self::Policies => "Policies",
            Self::CustomDomains => "Custom domains",
        }
    }
}

/// What kind of failure it is. The first nine are those of the Azure CLI's registry health check; the others are for what
/// it does not look at.
///
/// Source: Microsoft Learn, "Health check error reference" of Azure Container Registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The host name does not resolve.
    Dns,
    /// The registry's firewall, or public access is off.
    Forbidden,
    /// `/v2/` does not ask for a token as it should.
    Challenge,
    /// No token of Entra ID.
    AadLogin,
    /// No refresh token.
    RefreshToken,
    /// No access token for the repository.
    AccessToken,
    /// No TLS connection that can be trusted.
    Ssl,
    /// There is no such login server.
    LoginServer,
    /// The registry can't read its content: the key or its identity is gone.
    Cmk,
    /// No TCP connection.
    Tcp,
    /// The repository or the manifest is not there.
    Manifest,
    /// The host that layers come from can't be reached.
    DataEndpoint,
    /// The clocks are too far apart.
    ClockSkew,
    /// No controller has done its part.
    Controller,
    /// A pull secret could not be written.
    PullSecret,
    /// The API server's policies and the webhook do not mean the same.
    Policy,
    /// pullpass and its webhook are told about different namespaces.
    SettingsDiffer,
    /// A custom domain has no effect.
    CustomDomain,
    /// A `CustomResourceDefinition` is not there.
    CrdMissing,
    /// A `CustomResourceDefinition` is older than this program.
    CrdOutdated,
    /// There are `AcrPullBindings` that nobody carries out.
    BindingsOff,
    /// pullpass runs in another namespace than the one that its objects name.
    NamespaceMoved,
    /// pullpass lacks a right.
    RightsMissing,
    /// A policy that keeps pullpass off foreign Secrets and tokens is not there.
    FenceMissing,
    /// Such a policy is not bound.
    FenceUnbound,
    /// The webhook is not registered.
    WebhookMissing,
    /// The API server has no authority to trust the webhook by.
    CaMissing,
    /// It trusts another one than the one that signed the webhook's certificate.
    CaWrong,
    /// No replica is behind the Service.
    NoEndpoints,
    /// The API server does not reach the webhook.
    Unreachable,
    /// The network policy keeps replicas from API servers.
    EgressBlocked,
    /// No replica leads.
    NoLeader,
    /// Several versions run, or another one than this program's.
    VersionSkew,
    /// The namespace is not injected.
    NotInjected,
    /// Kubernetes is too old.
    KubernetesVersion,
    /// The API server lacks a resource that pullpass needs.
    ApiMissing,
    /// The user lacks a right that installing needs.
    InstallRights,
    /// There is an installation in another namespace.
    OtherInstallation,
}

impl Code {
    /// The code, as scripts know it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "CONNECTIVITY_DNS_ERROR",
            Self::Forbidden => "CONNECTIVITY_FORBIDDEN_ERROR",
            Self::Challenge => "CONNECTIVITY_CHALLENGE_ERROR",
            Self::AadLogin => "CONNECTIVITY_AAD_LOGIN_ERROR",
            Self::RefreshToken => "CONNECTIVITY_REFRESH_TOKEN_ERROR",
            Self::AccessToken => "CONNECTIVITY_ACCESS_TOKEN_ERROR",
            Self::Ssl => "CONNECTIVITY_SSL_ERROR",
            Self::LoginServer => "LOGIN_SERVER_ERROR",
            Self::Cmk => "CMK_ERROR",
            Self::Tcp => "CONNECTIVITY_TCP_ERROR",
            Self::Manifest => "MANIFEST_ERROR",
            Self::DataEndpoint => "DATA_ENDPOINT_ERROR",
            Self::ClockSkew => "CLOCK_SKEW_ERROR",
            Self::Controller => "CONTROLLER_ERROR",
            Self::PullSecret => "PULL_SECRET_ERROR",
            Self::Policy => "ADMISSION_POLICY_ERROR",
            Self::SettingsDiffer => "SETTINGS_DIFFER_ERROR",
            Self::CustomDomain => "CUSTOM_DOMAIN_ERROR",
            Self::CrdMissing => "CRD_MISSING_ERROR",
            Self::CrdOutdated => "CRD_OUTDATED_ERROR",
            Self::BindingsOff => "BINDINGS_OFF_ERROR",
            Self::NamespaceMoved => "NAMESPACE_MOVED_ERROR",
            Self::RightsMissing => "RIGHTS_MISSING_ERROR",
            Self::FenceMissing => "FENCE_MISSING_ERROR",
            Self::FenceUnbound => "FENCE_UNBOUND_ERROR",
            Self::WebhookMissing => "WEBHOOK_MISSING_ERROR",
            Self::CaMissing => "WEBHOOK_CA_MISSING_ERROR",
            Self::CaWrong => "WEBHOOK_CA_WRONG_ERROR",
            Self::NoEndpoints => "WEBHOOK_NO_ENDPOINTS_ERROR",
            Self::Unreachable => "WEBHOOK_UNREACHABLE_ERROR",
            Self::EgressBlocked => "EGRESS_BLOCKED_ERROR",
            Self::NoLeader => "NO_LEADER_ERROR",
            Self::VersionSkew => "VERSION_SKEW_ERROR",
            Self::NotInjected => "NAMESPACE_NOT_INJECTED_ERROR",
            Self::KubernetesVersion => "KUBERNETES_VERSION_ERROR",
            Self::ApiMissing => "API_MISSING_ERROR",
            Self::InstallRights => "INSTALL_RIGHTS_ERROR",
            Self::OtherInstallation => "OTHER_INSTALLATION_ERROR",
        }
    }
}

impl From<Barrier> for Code {
    fn from(barrier: Barrier) -> Self {
        match barrier {
            Barrier::Dns => Self::Dns,
            Barrier::Tcp => Self::Tcp,
            Barrier::Tls => Self::Ssl,
        }
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cure {
    /// What to do, in words.
    pub text: String,
    /// The command that does it, or that shows what to look at.
    pub command: Option<String>,
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepFailure {
    /// What kind of failure it is.
    pub code: Code,
    /// The likely cause.
    pub cause: String,
    /// What to do, the likeliest first.
    pub cures: Vec<Cure>,
}

/// The result of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutcome {
    /// It passed.
    Passed {
        /// What was found.
        detail: String,
    },
    /// It is not.
    Failed(StepFailure),
    /// It was not looked at.
    Skipped {
        /// Why not.
        why: String,
    },
}

pub(super) fn passed(detail: String) -> StepOutcome {
    StepOutcome::Passed { detail }
}

pub(super) fn failed(code: Code, cause: String, cures: Vec<Cure>) -> StepOutcome {
    StepOutcome::Failed(StepFailure { code, cause, cures })
}

/// A step and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding<S = CheckStep> {
    /// The step.
    pub step: S,
    /// How long it took; none if nothing was asked.
    pub took: Option<Duration>,
    /// Its result.
    pub outcome: StepOutcome,
}

impl<S> Finding<S> {
    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<&StepFailure> {
        match &self.outcome {
            StepOutcome::Failed(failure) => Some(failure),
            StepOutcome::Passed { .. } | StepOutcome::Skipped { .. } => None,
        }
    }
}
