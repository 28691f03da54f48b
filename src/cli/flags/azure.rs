//! How Azure is reached.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::azure::endpoint::{Audience, AuthorityHost, ImdsEndpoint, OtherEntra};
use crate::azure::entra::Entra;
use crate::azure::mint::Minter;
use crate::cli::CliError;
use crate::cli::flags::url::url;
use crate::http::{HttpClient, HttpOptions, Proxy, ResolveOverride};
use crate::registry::other_cloud::{CloudSuffix, OtherCloud};

/// How Azure is reached. `HTTPS_PROXY` and `NO_PROXY` are honoured.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Azure")]
pub(in crate::cli) struct AzureFlags {
    /// Connect to ADDR:PORT in place of HOST:PORT, as curl does
    #[arg(
        long,
        value_name = "HOST:PORT:ADDR:PORT",
        value_delimiter = ',',
        env = "PULLPASS_RESOLVE"
    )]
    resolve: Vec<ResolveOverride>,
    /// Trust the certificate authorities in this PEM file too
    #[arg(long, value_name = "FILE", env = "PULLPASS_EXTRA_CA")]
    extra_ca: Option<PathBuf>,
    /// The Entra authority, if it is not the cloud's own
    #[arg(long, value_name = "URL", value_parser = url::<AuthorityHost>(), env = "AZURE_AUTHORITY_HOST")]
    authority_host: Option<AuthorityHost>,
    /// The managed identity endpoint, if it is not Azure's own
    #[arg(long, value_name = "URL", value_parser = url::<ImdsEndpoint>(), env = "AZURE_POD_IDENTITY_AUTHORITY_HOST")]
    imds_endpoint: Option<ImdsEndpoint>,
    /// The suffix of login servers in another cloud (an air-gapped one, an Azure Stack): an AcrRegistry with spec.cloud
    /// Other may name a host with this suffix
    #[arg(long, value_name = "SUFFIX", env = "PULLPASS_OTHER_CLOUD_SUFFIX")]
    other_cloud_suffix: Option<CloudSuffix>,
    /// The Entra authority of that cloud; without it, AcrRegistries there can use only a repository-scoped token or no
    /// identity
    #[arg(
        long,
        value_name = "URL",
        value_parser = url::<AuthorityHost>(),
        requires_all = ["other_cloud_suffix", "other_cloud_audience"],
        env = "PULLPASS_OTHER_CLOUD_AUTHORITY"
    )]
    other_cloud_authority: Option<AuthorityHost>,
    /// The audience that registries of that cloud accept
    #[arg(
        long,
        value_name = "URL",
        value_parser = url::<Audience>(),
        requires = "other_cloud_authority",
        env = "PULLPASS_OTHER_CLOUD_AUDIENCE"
    )]
    other_cloud_audience: Option<Audience>,
}

/// The authority that was given by somebody who meant it. Azure Workload Identity sets `AZURE_AUTHORITY_HOST` beside its
/// token's file, to that of the cluster's cloud; identities of registries in other clouds are not known there.
fn authority(given: Option<AuthorityHost>, has_federated_token: bool) -> Option<AuthorityHost> {
    given.filter(|given| !(has_federated_token && given.is_of_a_cloud()))
}

impl AzureFlags {
    /// What mints credentials over this way.
    #[cfg(target_os = "linux")]
    pub(in crate::cli) fn minter(&self) -> Result<Minter, CliError> {
        Ok(self.minter_by(self.http()?))
    }

    /// What mints credentials by a client that [`Self::http_within`] gave.
    pub(in crate::cli) fn minter_by(&self, http: HttpClient) -> Minter {
        let has_federated_token = env::var_os("AZURE_FEDERATED_TOKEN_FILE").is_some();
        let authority = authority(self.authority_host.clone(), has_federated_token);
        let entra = Entra::new(http.clone(), authority, self.imds_endpoint.clone())
            .with_other_cloud(self.other_entra());
        Minter::new(http, entra, Arc::new(Timestamp::now))
    }

    /// What is known of another cloud.
    pub(in crate::cli) fn other_cloud(&self) -> OtherCloud {
        OtherCloud {
            suffix: self.other_cloud_suffix.clone(),
            has_authority: self.other_entra().is_some(),
        }
    }

    fn other_entra(&self) -> Option<OtherEntra> {
        Some(OtherEntra {
            authority_host: self.other_cloud_authority.clone()?,
            audience: self.other_cloud_audience.clone()?,
        })
    }

    /// A client of its own for this way.
    #[cfg(target_os = "linux")]
    pub(in crate::cli) fn http(&self) -> Result<HttpClient, CliError> {
        self.http_within(HttpOptions::default().request_timeout)
    }

    /// The same, with a time for a whole request.
    pub(in crate::cli) fn http_within(&self, request_timeout: Duration) -> Result<HttpClient, CliError> {
        let azure = |error: &dyn std::fmt::Display| CliError::Azure(error.to_string());
        let options = HttpOptions {
            resolve: self.resolve.clone(),
            extra_ca: self.extra_ca()?,
            proxy: Proxy::from_environment().map_err(|error| azure(&error))?,
            request_timeout,
            connect_timeout: HttpOptions::default().connect_timeout.min(request_timeout),
        };
        HttpClient::new(options).map_err(|error| azure(&error))
    }

    fn extra_ca(&self) -> Result<Vec<CertificateDer<'static>>, CliError> {
        let Some(path) = &self.extra_ca else {
            return Ok(Vec::new());
        };
        let failed = |error: &dyn std::fmt::Display| {
            CliError::Input(format!("--extra-ca {}: {error}", path.display()))
        };
        let pem = fs::read(path).map_err(|error| failed(&error))?;
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|error| failed(&error))?;
        if certificates.is_empty() {
            Err(failed(&"it holds no certificate in PEM"))
        } else {
            Ok(certificates)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    #[test]
    fn another_cloud_is_described_as_a_whole() {
        let suffix = "--other-cloud-suffix=azurecr.contoso.com";
        let authority = "--other-cloud-authority=https://login.contoso.com";
        let audience = "--other-cloud-audience=https://management.contoso.com/1-2";
        let described = |flags: &[&str]| {
            let command = AzureFlags::augment_args(clap::Command::new("test"));
            let matches = command.try_get_matches_from([&["test"], flags].concat());
            matches
                .map(|matches| AzureFlags::from_arg_matches(&matches).unwrap().other_cloud())
                .map_err(|error| error.to_string())
        };
        let known =
            |flags: &[&str]| described(flags).map(|other| (other.suffix.is_some(), other.has_authority));
        assert_eq!(known(&[]), Ok((false, false)));
        assert_eq!(known(&[suffix]), Ok((true, false)));
        assert_eq!(known(&[suffix, authority, audience]), Ok((true, true)));
        for (flags, missing) in [
            (&[authority, audience][..], "--other-cloud-suffix"),
            (&[suffix, authority], "--other-cloud-audience"),
            (&[suffix, audience], "--other-cloud-authority"),
        ] {
            let error = described(flags).unwrap_err();
            assert!(error.contains(missing), "{error}");
        }
        let error = described(&["--other-cloud-suffix=azurecr.io"]).unwrap_err();
        assert!(error.contains("in no zone of Azure's registries"), "{error}");
    }

    #[test]
    fn the_clusters_own_identity_is_not_used_for_every_registry() {
        let of_a_cloud = "https://login.microsoftonline.com/";
        let elsewhere = "https://login.example:8443";
        for (given, has_federated_token, is_taken) in [
            (of_a_cloud, true, false),
            (of_a_cloud, false, true),
            (elsewhere, true, true),
            (elsewhere, false, true),
        ] {
            let given: AuthorityHost = given.parse().unwrap();
            let expected = is_taken.then(|| given.clone());
            assert_eq!(authority(Some(given), has_federated_token), expected);
        }
        assert_eq!(authority(None, true), None);
    }
}
