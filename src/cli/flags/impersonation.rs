//! Whose rights count: kubectl's flags, and what a kubeconfig says where they are absent.

use clap::Args;
use http::{HeaderName, HeaderValue};
use kube::config::AuthInfo;

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub(in crate::cli) struct ImpersonationFlags {
    /// Act as this user, as far as you may impersonate them; a service account is
    /// system:serviceaccount:NAMESPACE:NAME
    #[arg(id = "act_as", long = "as", value_name = "USER", value_parser = header)]
    user: Option<HeaderValue>,
    /// Act as a member of this group, with --as; may be repeated
    #[arg(id = "act_as_group", long = "as-group", value_name = "GROUP", value_parser = header)]
    groups: Vec<HeaderValue>,
    /// Act with this UID of the user, with --as
    #[arg(id = "act_as_uid", long = "as-uid", value_name = "UID", value_parser = header)]
    uid: Option<HeaderValue>,
}

/// Text that a header can carry.
fn header(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|_| "it has characters that no HTTP header can carry".to_owned())
}

impl ImpersonationFlags {
    /// The headers that say whose rights count: each of a flag, or else of the kubeconfig, which kube reads and leaves out.
    pub(super) fn headers(&self, user: &AuthInfo) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let name = given(self.user.as_ref(), user.impersonate.as_deref())?;
        let uid = given(self.uid.as_ref(), user.impersonate_uid.as_deref())?;
        let groups = if self.groups.is_empty() {
            let groups = user.impersonate_groups.iter().flatten();
            groups.map(|group| header(group)).collect::<Result<_, _>>()?
        } else {
            self.groups.clone()
        };
        let extra = extra(user)?;
        let Some(name) = name else {
            return if uid.is_none() && groups.is_empty() && extra.is_empty() {
                Ok(Vec::new())
            } else {
                Err("a group or a UID to act with needs a user: name one with --as".to_owned())
            };
        };
        let named = |name: &'static str| move |value| (HeaderName::from_static(name), value);
        let name = std::iter::once(name).map(named("impersonate-user"));
        let uid = uid.into_iter().map(named("impersonate-uid"));
        let groups = groups.into_iter().map(named("impersonate-group"));
        Ok(name.chain(uid).chain(groups).chain(extra).collect())
    }
}

/// What a flag gives, or else the kubeconfig; an empty text is none.
fn given(flag: Option<&HeaderValue>, kubeconfig: Option<&str>) -> Result<Option<HeaderValue>, String> {
    match flag {
        Some(flag) => Ok(Some(flag.clone()).filter(|value| !value.is_empty())),
        None => kubeconfig.filter(|text| !text.is_empty()).map(header).transpose(),
    }
}

/// What else a kubeconfig says of the user, a header for each value.
fn extra(user: &AuthInfo) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut headers = Vec::new();
    for (key, values) in user.impersonate_user_extra.iter().flatten() {
        let escaped: String = key.to_lowercase().bytes().map(in_header_name).collect();
        let name: HeaderName = format!("impersonate-extra-{escaped}")
            .parse()
            .map_err(|_| format!("no HTTP header can be called by {key} of as-user-extra"))?;
        for value in values {
            headers.push((name.clone(), header(value)?));
        }
    }
    headers.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
    Ok(headers)
}

/// A byte as it stands in the name of a header, by the encoding of URLs where it has to be.
fn in_header_name(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02x}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(flags: &ImpersonationFlags, user: &AuthInfo) -> Result<Vec<String>, String> {
        let headers = flags.headers(user)?.into_iter();
        Ok(headers
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect())
    }

    #[test]
    fn each_flag_comes_before_its_like_in_the_kubeconfig() {
        let none = ImpersonationFlags::default();
        assert_eq!(said(&none, &AuthInfo::default()), Ok(Vec::new()));
        let user: AuthInfo = serde_json::from_value(json!({
            "as": "jane", "as-uid": "7b79", "as-groups": ["team-a", "team-b"],
            "as-user-extra": {"Reason/why": ["x", "y"]},
        }))
        .unwrap();
        let extra = [
            "impersonate-extra-reason%2fwhy: x",
            "impersonate-extra-reason%2fwhy: y",
        ];
        let with_extra = |lines: &[&str]| -> Result<Vec<String>, String> {
            Ok(lines.iter().chain(&extra).map(|&line| line.to_owned()).collect())
        };
        let of_file = [
            "impersonate-user: jane",
            "impersonate-uid: 7b79",
            "impersonate-group: team-a",
            "impersonate-group: team-b",
        ];
        assert_eq!(said(&none, &user), with_extra(&of_file));
        let flags = ImpersonationFlags {
            user: Some(HeaderValue::from_static("joe")),
            groups: vec![HeaderValue::from_static("team-c")],
            uid: Some(HeaderValue::from_static("99aa")),
        };
        let of_flags = [
            "impersonate-user: joe",
            "impersonate-uid: 99aa",
            "impersonate-group: team-c",
        ];
        assert_eq!(said(&flags, &user), with_extra(&of_flags));
        let groups_alone = ImpersonationFlags {
            user: None,
            uid: None,
            ..flags
        };
        let both = [
            "impersonate-user: jane",
            "impersonate-uid: 7b79",
            "impersonate-group: team-c",
        ];
        assert_eq!(said(&groups_alone, &user), with_extra(&both));
    }

    #[test]
    fn nobody_acts_with_a_group_or_a_uid_alone() {
        let none = ImpersonationFlags::default();
        for user in [
            json!({"as-uid": "7b79"}),
            json!({"as-groups": ["team-a"]}),
            json!({"as": "", "as-user-extra": {"a": ["b"]}}),
        ] {
            let error = said(&none, &serde_json::from_value(user).unwrap()).unwrap_err();
            assert!(error.contains("--as"), "{error}");
        }
        let broken: AuthInfo = serde_json::from_value(json!({"as": "two\nlines"})).unwrap();
        assert!(said(&none, &broken).is_err());
    }
}
