//! The hosts of registries in Azure's clouds, by their form.

use crate::base::dns::MAX_LABEL;
use crate::registry::cloud::Cloud;

/// The shortest and the longest name of a registry resource.
pub const NAME_LENGTH: std::ops::RangeInclusive<usize> = 5..=50;
/// The label that tells a regional endpoint: `{name}.{region}.geo.azurecr.io`.
pub(super) const REGIONAL: &str = "geo";

/// Why a host is of no registry in Azure's clouds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndpointError {
    /// It is in none of their zones.
    Suffix,
    /// What comes before the suffix can't be a registry's name.
    Name,
}

/// A host of a registry: its own, `{label}.azurecr.io`, or that of a replica in a region,
/// `{label}.{region}.geo.azurecr.io`. Layers come from `{label}.{region}.data.azurecr.io`, which is no login server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Endpoint<'a> {
    label: &'a str,
    pub(super) is_regional: bool,
    cloud: Cloud,
}

impl<'a> Endpoint<'a> {
    pub(super) fn parse(host: &'a str) -> Result<Self, EndpointError> {
        let (label, suffix) = host.split_once('.').ok_or(EndpointError::Suffix)?;
        let (is_regional, cloud) = match cloud_of(suffix) {
            Some(cloud) => (false, cloud),
            None => (true, cloud_of_region(suffix).ok_or(EndpointError::Suffix)?),
        };
        let (name, hash) = match label.split_once('-') {
            Some((name, hash)) => (name, Some(hash)),
            None => (label, None),
        };
        let fits = label.len() <= MAX_LABEL && NAME_LENGTH.contains(&name.len());
        if !fits || !is_word(name) || !hash.is_none_or(is_word) {
            return Err(EndpointError::Name);
        }
        Ok(Self {
            label,
            is_regional,
            cloud,
        })
    }

    /// The registry's own host, in lower case.
    pub(super) fn own_host(&self) -> String {
        let mut host = format!("{}.{}", self.label, self.cloud.login_server_suffix());
        host.make_ascii_lowercase();
        host
    }

    pub(super) fn cloud(&self) -> Cloud {
        self.cloud
    }
}

fn is_word(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The cloud that a suffix is of.
fn cloud_of(suffix: &str) -> Option<Cloud> {
    Cloud::ALL
        .into_iter()
        .find(|cloud| suffix.eq_ignore_ascii_case(cloud.login_server_suffix()))
}

/// The cloud that `{region}.geo.{suffix}` is of.
fn cloud_of_region(rest: &str) -> Option<Cloud> {
    let (region, rest) = rest.split_once('.')?;
    let (geo, suffix) = rest.split_once('.')?;
    let is_region = is_word(region) && region.len() <= MAX_LABEL && geo.eq_ignore_ascii_case(REGIONAL);
    cloud_of(suffix).filter(|_| is_region)
}
