//! One line of the audit log.

use std::borrow::Cow;
use std::cell::Cell;

use jiff::Timestamp;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::base::dns::MAX_SUBDOMAIN;
use crate::policy::decision::{Decision, JudgedImage, Waited};
use crate::policy::request::{Owner, PodImage, ReviewRequest};
use crate::policy::scope::Mode;

/// The value of `schema` in every line.
pub(super) const SCHEMA: &str = "pullpass.dev/audit/v1";
/// How many images, and how many violations, a record lists at most. A Pod can name tens of thousands.
const MAX_LISTED: usize = 100;
/// How much of an image's reference a record keeps, in bytes of JSON: enough for a repository, a tag and a digest of the
/// longest kind with a usual host. Leading zeros of a port have no end.
const MAX_REFERENCE: usize = 600;
/// The same, of a registry's host; a valid one is no longer.
const MAX_HOST: usize = MAX_SUBDOMAIN;
/// The same, of the name of a container or volume; a valid one has 63 (a DNS label).
const MAX_ITEM: usize = 100;
/// The same, of an object's name; a valid one is no longer.
const MAX_NAME: usize = MAX_SUBDOMAIN;
/// The same, of the names of users, which Kubernetes does not limit: subjects of certificates and claims of tokens.
const MAX_USER: usize = 1024;

/// A decision and where it came from.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// When it was answered.
    pub time: Timestamp,
    /// What was asked.
    pub request: &'a ReviewRequest<'a>,
    /// What was decided.
    pub decision: &'a Decision<'a>,
    /// What was waited for first, if anything was.
    pub waited: Option<Waited>,
    /// The mode in force.
    pub mode: Mode,
    /// The caller's address, or the subject of its client certificate.
    pub peer: &'a str,
    /// From the body's arrival to the answer, in microseconds.
    pub duration_micros: u64,
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            time,
            request,
            decision,
            waited,
            mode,
            peer,
            duration_micros,
        } = self;
        let mut record = serializer.serialize_struct("Record", 20)?;
        record.serialize_field("schema", SCHEMA)?;
        record.serialize_field("time", &Micros(*time))?;
        record.serialize_field("uid", &request.uid)?;
        record.serialize_field("operation", request.operation.as_str())?;
        record.serialize_field("dryRun", &request.dry_run)?;
        record.serialize_field("namespace", &request.namespace)?;
        record.serialize_field("pod", &PodRecord(request))?;
        record.serialize_field("user", &cut(&request.user, MAX_USER))?;
        record.serialize_field("images", &Images(&decision.images))?;
        record.serialize_field("mode", mode)?;
        record.serialize_field("decision", &decision.outcome)?;
        record.serialize_field("reason", &decision.reason)?;
        record.serialize_field("injected", &decision.secrets)?;
        match &decision.injected_by {
            Some(injector) => record.serialize_field("injectedBy", injector)?,
            None => record.skip_field("injectedBy")?,
        }
        record.serialize_field("violations", first(&decision.violations, MAX_LISTED).0)?;
        match LeftOut::of(decision) {
            Some(left_out) => record.serialize_field("leftOut", &left_out)?,
            None => record.skip_field("leftOut")?,
        }
        match waited {
            Some(waited) => record.serialize_field("waited", waited)?,
            None => record.skip_field("waited")?,
        }
        record.serialize_field("peer", &cut(peer, MAX_USER))?;
        record.serialize_field("durationMicros", duration_micros)?;
        record.serialize_field("version", env!("CARGO_PKG_VERSION"))?;
        record.end()
    }
}

/// How many entries of the lists there was no room for.
#[derive(Serialize)]
struct LeftOut {
    #[serde(skip_serializing_if = "is_none")]
    images: usize,
    #[serde(skip_serializing_if = "is_none")]
    violations: usize,
}

impl LeftOut {
    fn of(decision: &Decision<'_>) -> Option<Self> {
        let images = decision.images.len().saturating_sub(MAX_LISTED);
        let violations = first(&decision.violations, MAX_LISTED).1;
        (images + violations > 0).then_some(Self { images, violations })
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// The first entries of a list, and how many there are besides.
fn first<T>(list: &[T], most: usize) -> (&[T], usize) {
    list.split_at_checked(most)
        .map_or((list, 0), |(first, rest)| (first, rest.len()))
}

/// RFC 3339 with exactly six digits of the second, so that lines sort as text.
pub(super) struct Micros(pub(super) Timestamp);

impl Serialize for Micros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 < Timestamp::UNIX_EPOCH {
            return serializer.collect_str(&format_args!("{:.6}", self.0));
        }
        let mut latest = LATEST.take();
        let written = serializer.serialize_str(latest.of(self.0));
        LATEST.set(latest);
        written
    }
}

thread_local! {
    /// The time that was written last: most records are of the same second.
    static LATEST: Cell<TimeText> = const { Cell::new(TimeText { second: None, text: String::new() }) };
}

/// A time as text, of which the next one in the same second takes all but the microseconds.
#[derive(Default)]
struct TimeText {
    second: Option<i64>,
    text: String,
}

impl TimeText {
    /// The text of a time since 1970.
    fn of(&mut self, time: Timestamp) -> &str {
        const UNITS: [u32; 6] = [100_000, 10_000, 1_000, 100, 10, 1];
        let second = Some(time.as_second());
        if self.second != second {
            self.second = second;
            self.text = format!("{time:.6}");
        }
        self.text.truncate("1970-01-01T00:00:00.".len());
        let micros = time.subsec_microsecond().unsigned_abs();
        self.text.extend(UNITS.map(|unit| digit(micros / unit)));
        self.text.push('Z');
        &self.text
    }
}

/// The last decimal digit of a number.
fn digit(number: u32) -> char {
    char::from_digit(number % 10, 10).unwrap_or_default()
}

struct PodRecord<'a>(&'a ReviewRequest<'a>);

impl Serialize for PodRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct OwnerRecord<'a> {
            kind: &'a str,
            name: &'a str,
        }
        let cut = |text| cut(text, MAX_NAME);
        let pod = &self.0.pod;
        // The API server names the object in the request too, and there it can't be forged by the object itself.
        let name = Some(self.0.name.as_ref())
            .filter(|name| !name.is_empty())
            .or(pod.name.as_deref())
            .map(cut);
        let owner = pod.owner.as_ref().map(|Owner { kind, name, .. }| OwnerRecord {
            kind: cut(kind),
            name: cut(name),
        });
        let mut record = serializer.serialize_struct("Pod", 4)?;
        record.serialize_field("name", &name)?;
        record.serialize_field("generateName", &pod.generate_name.as_deref().map(cut))?;
        record.serialize_field("owner", &owner)?;
        record.serialize_field("serviceAccount", &pod.service_account.as_deref().map(cut))?;
        record.end()
    }
}

/// The images, no more than are listed. Where some are left out, those on an attached registry come first.
struct Images<'a>(&'a [JudgedImage<'a>]);

impl Serialize for Images<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.len() <= MAX_LISTED {
            return serializer.collect_seq(self.0.iter().map(ImageRecord));
        }
        let of_registries = self.0.iter().filter(|judged| judged.registry.is_some());
        let others = self.0.iter().filter(|judged| judged.registry.is_none());
        serializer.collect_seq(of_registries.chain(others).take(MAX_LISTED).map(ImageRecord))
    }
}

struct ImageRecord<'a>(&'a JudgedImage<'a>);

impl Serialize for ImageRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let JudgedImage {
            image,
            host,
            registry,
        } = self.0;
        let mut record = serializer.serialize_struct("Image", 4)?;
        record.serialize_field("path", &Path(image))?;
        record.serialize_field("reference", &cut(&image.reference, MAX_REFERENCE))?;
        record.serialize_field("host", &host.as_deref().map(|host| cut(host, MAX_HOST)))?;
        record.serialize_field("registry", registry)?;
        record.end()
    }
}

struct Path<'a>(&'a PodImage<'a>);

impl Serialize for Path<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let PodImage {
            field,
            name,
            reference,
        } = self.0;
        let image = PodImage {
            field: *field,
            name: Cow::Borrowed(cut(name, MAX_ITEM)),
            reference: Cow::Borrowed(reference),
        };
        serializer.collect_str(&image.path())
    }
}

/// As much of a text as takes that many bytes in JSON at most, without its quotes.
fn cut(text: &str, most: usize) -> &str {
    /// How many bytes the longest escape takes, which stands for one byte.
    const ESCAPE: usize = 6;
    if text.len() <= most / ESCAPE {
        return text;
    }
    let mut size = 0;
    let end = text.char_indices().find(|(_, c)| {
        size += match c {
            '"' | '\\' => 2,
            c if c.is_ascii_control() => ESCAPE,
            c => c.len_utf8(),
        };
        size > most
    });
    let cut = end.and_then(|(at, _)| text.get(..at));
    cut.unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::attached::{AttachedRegistries, AttachedRegistry};
    use crate::policy::decision::{Settings, decide};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn record(pod: &Value, user: &str) -> (String, Value) {
        record_with(&AttachedRegistries::default(), pod, user)
    }

    fn record_with(registries: &AttachedRegistries, pod: &Value, user: &str) -> (String, Value) {
        let body = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
            "uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
            "namespace": "apps", "userInfo": {"username": user}, "object": pod,
        }})
        .to_string();
        let request = ReviewRequest::decode(body.as_bytes()).unwrap();
        let decision = decide(&request, registries, None, &Settings::default());
        let line = serde_json::to_string(&Record {
            time: Timestamp::UNIX_EPOCH,
            request: &request,
            decision: &decision,
            waited: None,
            mode: Mode::ClusterWide,
            peer: "127.0.0.1:1",
            duration_micros: 1,
        })
        .unwrap();
        let value = serde_json::from_str(&line).unwrap();
        let schema = serde_json::from_str(include_str!("../../docs/audit.schema.json")).unwrap();
        let valid = jsonschema::validate(&schema, &value);
        assert!(valid.is_ok(), "{valid:?} {}", &line[..line.len().min(2_000)]);
        (line, value)
    }

    fn pod(containers: impl Iterator<Item = (String, String)>) -> Value {
        let containers: Vec<_> = containers
            .map(|(name, image)| json!({"name": name, "image": image}))
            .collect();
        json!({"spec": {"containers": containers}})
    }

    #[test]
    fn a_record_of_many_hosts_is_cut_and_counted() {
        let images = (0..18_000).map(|n| (format!("c{n}"), format!("registry{n}.azurecr.io/app")));
        let (line, record) = record(&pod(images), "jane");
        assert!(line.len() < 32 << 10, "{}", line.len());
        assert_eq!(record["images"].as_array().unwrap().len(), MAX_LISTED);
        assert_eq!(record["violations"].as_array().unwrap().len(), MAX_LISTED);
        assert_eq!(record["leftOut"], json!({"images": 17_900, "violations": 17_900}));
    }

    #[test]
    fn a_record_of_a_usual_pod_leaves_nothing_out() {
        let images = (0..MAX_LISTED).map(|n| (format!("c{n}"), format!("registry{n}.azurecr.io/app")));
        let (_, record) = record(&pod(images), "jane");
        assert_eq!(record["images"].as_array().unwrap().len(), MAX_LISTED);
        assert_eq!(record.get("leftOut"), None);
    }

    #[test]
    fn every_pull_secret_that_was_added_is_listed() {
        const COUNT: usize = 3 * MAX_LISTED;
        let registry = |number: usize| {
            let object = json!({
                "apiVersion": "pullpass.dev/v1alpha1", "kind": "AcrRegistry", "metadata": {"name": format!("r{number}")},
                "spec": {
                    "loginServer": format!("registry{number}.azurecr.io"), "identity": {"managedIdentity": {}},
                },
            });
            AttachedRegistry::parse(&serde_json::from_value(object).unwrap()).unwrap()
        };
        let registries = (0..COUNT).map(registry).collect();
        let images = (0..COUNT).map(|n| (format!("c{n}"), format!("registry{n}.azurecr.io/app")));
        let (_, record) = record_with(&registries, &pod(images), "jane");
        assert_eq!(record["injected"].as_array().unwrap().len(), COUNT);
        assert_eq!(record["leftOut"], json!({"images": COUNT - MAX_LISTED}));
    }

    #[test]
    fn a_record_is_bounded_whatever_its_texts_are() {
        for long in ["x", "\u{1}", "\"", "]", "\u{1f4a9}"].map(|text| text.repeat(20_000)) {
            let mut pod = pod((0..200).map(|_| (long.clone(), long.clone())));
            pod["spec"]["serviceAccountName"] = json!(long);
            pod["metadata"] = json!({"name": long, "generateName": long, "ownerReferences": [
                {"kind": long, "name": long, "apiVersion": long, "uid": long}]});
            let (line, record) = record(&pod, &long);
            assert!(line.len() < 100 << 10, "{}", line.len());
            assert_eq!(record["leftOut"], json!({"images": 100}));
        }
    }

    #[test]
    fn a_record_is_bounded_whatever_its_hosts_are() {
        let zeros = "0".repeat(20_000);
        for image in [
            format!("{}.example/a", "a".repeat(20_000)),
            format!("registry.example:{zeros}5000/a"),
            format!("myregistry.azurecr.io:{zeros}443/a"),
            format!("myregistry.azurecr.io:{zeros}444/a"),
        ] {
            let (line, record) = record(&pod((0..100).map(|n| (format!("c{n}"), image.clone()))), "jane");
            assert!(line.len() < 100 << 10, "{}", line.len());
            let host = record["images"][0]["host"].as_str().unwrap();
            assert!(host.len() <= MAX_HOST, "{}", host.len());
        }
    }

    proptest! {
        /// Most times are in the second of the former one.
        #[test]
        fn a_time_is_written_with_six_digits(
            first in Timestamp::MIN.as_second()..Timestamp::MAX.as_second(),
            steps in prop::collection::vec((prop_oneof![3 => Just(0), 1 => -1..=1_i64], 0..1_000_000_000), 1..20),
        ) {
            let mut second = first;
            for (step, nanos) in steps {
                second = second.saturating_add(step);
                let Ok(time) = Timestamp::new(second, nanos) else { continue };
                let text = serde_json::to_string(&Micros(time)).unwrap();
                prop_assert_eq!(text, format!("\"{time:.6}\""));
            }
        }
    }

    #[test]
    fn times_around_1970_are_written_with_six_digits() {
        for nanos in [
            -1_000_000_001,
            -1_000_000_000,
            -1,
            0,
            1,
            999_999_999,
            1_000_000_000,
        ] {
            let time = Timestamp::from_nanosecond(nanos).unwrap();
            let text = serde_json::to_string(&Micros(time)).unwrap();
            assert_eq!(text, format!("\"{time:.6}\""));
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        for (text, most, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "abc"),
            ("a\u{e9}\u{e9}", 4, "a\u{e9}"),
            ("\n\n", 11, "\n"),
            ("\"\\", 4, "\"\\"),
            ("\"\\", 3, "\""),
            ("", 0, ""),
        ] {
            assert_eq!(cut(text, most), expected, "{text:?}");
        }
    }
}
