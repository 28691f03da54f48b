//! Reviews out of any bytes: realistic ones, and ones that nobody but a forger writes.
//!
//! Each byte decides one thing, and where there are no more every decision is the plainest. So a mutation of the bytes is a
//! mutation of the review's structure, not only of its text, and fewer bytes make a simpler review.

use std::fmt::Write;

/// How deep a generated value is nested at most, besides the one that is all depth.
const MAX_DEPTH: usize = 5;

/// Images: of every registry of the check's world, in several spellings, and what is none.
const IMAGES: [&str; 20] = [
    "nginx:1",
    "alpharegistry.azurecr.io/app:1",
    "ALPHAregistry.azurecr.io:443/app",
    "betaregistry.azurecr.us/team/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "gammaregistry.azurecr.cn/a",
    "stranger.azurecr.io/web:1",
    "alpharegistry.azurecr.io:5000/a",
    "alpharegistry.azurecr.io.evil.example/a",
    "evil.example/alpharegistry.azurecr.io/a",
    "azurecr.io/a",
    "user@alpharegistry.azurecr.io/a",
    "alpharegistry.azurecr.io/",
    "alpharegistry.azurecr.io/App",
    "",
    "[::1]:443/a",
    "docker.io/library/nginx",
    "\u{e4}lpharegistry.azurecr.io/a",
    "alpharegistry.azurecr.io/a b",
    "alpharegistry.azurecr.io/<a>&\"b\"",
    "other1.azurecr.us/\u{1f433}",
];
const NAMESPACES: [&str; 12] = [
    "apps",
    "team-a",
    "enabled",
    "off",
    "always",
    "new",
    "kube-system",
    "pullpass-system",
    "legacy",
    "Bad_Name",
    "",
    "-",
];
const SECRETS: [&str; 7] = [
    "own",
    "pullpass-alpha",
    "pullpass-beta-a",
    "pullpass-beta-b",
    "pullpass-gamma",
    "",
    "pullpass-",
];
const WORDS: [&str; 14] = [
    "web",
    "a",
    "",
    "kube-api-access-x2x9q",
    "image",
    "}]\\\"",
    "\u{0}\u{1f}\u{7f}",
    "\u{2028}\u{2029}",
    "<script>&amp;",
    "\u{e9}\u{1f4a9}",
    "\\u0041",
    "[{",
    "\n\r\t\u{8}\u{c}/",
    "x]y",
];

/// The bytes, as decisions.
struct Source<'a> {
    bytes: &'a [u8],
}

impl Source<'_> {
    fn next(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((byte, rest)) => {
                self.bytes = rest;
                *byte
            }
            None => 0,
        }
    }

    fn choice(&mut self, of: usize) -> usize {
        usize::from(self.next()) % of
    }

    /// True for one byte out of `of`, and never where there are no more.
    fn one_in(&mut self, of: u8) -> bool {
        self.next() % of == of - 1
    }

    fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        from[self.choice(from.len())]
    }
}

/// A JSON value as it is written: keys may be there twice, and numbers are text.
enum Json {
    Null,
    Bool(bool),
    Number(&'static str),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
    /// As many lists in one another, without any content.
    Deep(usize),
}

fn word(text: &str) -> Json {
    Json::Text(text.to_owned())
}

/// A review that follows only from the bytes.
pub fn review(bytes: &[u8]) -> String {
    let mut source = Source { bytes };
    let style = source.next();
    let value = envelope(&mut source);
    let mut text = String::new();
    let mut writer = Writer {
        source,
        style,
        out: &mut text,
    };
    writer.value(&value);
    text
}

/// An object of these members. Some are left out or `null`, some are there twice, others are in between.
fn object(source: &mut Source<'_>, members: Vec<(&str, Json)>) -> Json {
    let mut written = Vec::with_capacity(members.len());
    for (key, value) in members {
        match source.next() {
            // Rare, since the API server sends no such review.
            255 => {
                written.push((key.to_owned(), anything(source, 0)));
                written.push((key.to_owned(), value));
            }
            253..=254 => written.push((key.to_owned(), anything(source, 0))),
            249..=252 => written.push((key.to_owned(), Json::Null)),
            240..=248 => {}
            230..=239 => {
                written.push((source.pick(&WORDS).to_owned(), anything(source, 0)));
                written.push((key.to_owned(), value));
            }
            220..=229 => written.insert(0, (key.to_owned(), value)),
            _ => written.push((key.to_owned(), value)),
        }
    }
    Json::Object(written)
}

fn list(source: &mut Source<'_>, most: usize, item: impl Fn(&mut Source<'_>) -> Json) -> Json {
    let count = source.choice(most + 1);
    Json::List((0..count).map(|_| item(source)).collect())
}

/// What the decoder has to skip.
fn anything(source: &mut Source<'_>, depth: usize) -> Json {
    if depth >= MAX_DEPTH {
        return Json::Null;
    }
    match source.choice(9) {
        0 => Json::Null,
        1 => Json::Bool(true),
        2 => Json::Number(["0", "-1", "1e9", "3.14", "18446744073709551616"][source.choice(5)]),
        3 | 4 => word(source.pick(&WORDS)),
        5 => {
            let count = source.choice(4);
            Json::List((0..count).map(|_| anything(source, depth + 1)).collect())
        }
        6 => Json::Deep(usize::from(source.next()) * 4),
        _ => {
            let count = source.choice(4);
            let mut members = Vec::new();
            for _ in 0..count {
                let key = ["name", "image", "f:image", "env", "value", "spec"][source.choice(6)];
                members.push((key.to_owned(), anything(source, depth + 1)));
            }
            Json::Object(members)
        }
    }
}

fn envelope(source: &mut Source<'_>) -> Json {
    let request = request(source);
    let kind = if source.one_in(64) {
        "admissionReview"
    } else {
        "AdmissionReview"
    };
    let version = if source.one_in(64) { "v1beta1" } else { "v1" };
    let members = vec![
        ("kind", word(kind)),
        ("apiVersion", Json::Text(format!("admission.k8s.io/{version}"))),
        ("request", request),
    ];
    object(source, members)
}

fn request(source: &mut Source<'_>) -> Json {
    let operation = ["CREATE", "CREATE", "UPDATE", "DELETE", "CONNECT", "PATCH"][source.choice(6)];
    let sub_resource = ["", "", "ephemeralcontainers", "status"][source.choice(4)];
    let kind = if source.one_in(16) { "Deployment" } else { "Pod" };
    let group = if source.one_in(16) { "apps" } else { "" };
    let uid = if source.one_in(32) {
        "u".repeat(60 + source.choice(8))
    } else {
        "705ab4f5-6393-11e8-b7cc-42010a800002".to_owned()
    };
    let namespace = if source.one_in(32) {
        "n".repeat(60 + source.choice(6))
    } else {
        source.pick(&NAMESPACES).to_owned()
    };
    let kind = vec![
        ("group", word(group)),
        ("version", word("v1")),
        ("kind", word(kind)),
    ];
    let user = vec![
        ("username", word(source.pick(&WORDS))),
        (
            "groups",
            Json::List(vec![word(
                ["system:authenticated", "system:nodes"][source.choice(2)],
            )]),
        ),
        ("extra", anything(source, 0)),
    ];
    let old = if operation == "CREATE" {
        Json::Null
    } else {
        pod(source)
    };
    let mut members = vec![
        ("uid", Json::Text(uid)),
        ("kind", object(source, kind)),
        ("resource", anything(source, 2)),
    ];
    if !sub_resource.is_empty() {
        members.push(("subResource", word(sub_resource)));
    }
    members.extend([
        ("name", word(source.pick(&WORDS))),
        ("namespace", Json::Text(namespace)),
        ("operation", word(operation)),
        ("userInfo", object(source, user)),
        ("object", pod(source)),
        ("oldObject", old),
        ("dryRun", Json::Bool(source.one_in(4))),
        ("options", anything(source, 2)),
    ]);
    object(source, members)
}

fn pod(source: &mut Source<'_>) -> Json {
    let labels = vec![
        ("app", word(source.pick(&WORDS))),
        (
            ["role", "role", "role", "pullpass.dev/inject"][source.choice(4)],
            word(["disabled", "enabled", ""][source.choice(3)]),
        ),
    ];
    let annotations = vec![
        ("note", word(source.pick(&WORDS))),
        (
            [
                "a",
                "b",
                "c",
                "kubernetes.io/config.mirror",
                "pullpass.dev/injected-by",
            ][source.choice(5)],
            word(["x", "admission-policy"][source.choice(2)]),
        ),
    ];
    let owners = list(source, 3, |source| {
        let members = vec![
            ("apiVersion", word("apps/v1")),
            ("kind", word("ReplicaSet")),
            ("name", word(source.pick(&WORDS))),
            ("uid", word(source.pick(&WORDS))),
            ("controller", Json::Bool(source.one_in(2))),
        ];
        object(source, members)
    });
    let metadata = vec![
        ("generateName", word(source.pick(&WORDS))),
        ("creationTimestamp", Json::Null),
        ("labels", object(source, labels)),
        ("annotations", object(source, annotations)),
        ("ownerReferences", owners),
        ("managedFields", anything(source, 0)),
    ];
    let secrets = list(source, 3, |source| {
        let members = vec![("name", word(source.pick(&SECRETS)))];
        object(source, members)
    });
    let mut spec = vec![
        ("volumes", list(source, 2, volume)),
        ("containers", list(source, 4, container)),
        ("initContainers", list(source, 2, container)),
        ("ephemeralContainers", list(source, 1, container)),
        ("serviceAccountName", word(source.pick(&WORDS))),
        ("securityContext", anything(source, 1)),
    ];
    match source.choice(4) {
        0 => {}
        1 => spec.push(("imagePullSecrets", Json::Null)),
        _ => spec.push(("imagePullSecrets", secrets)),
    }
    let members = vec![
        ("kind", word("Pod")),
        ("metadata", object(source, metadata)),
        ("spec", object(source, spec)),
        ("status", anything(source, 2)),
    ];
    object(source, members)
}

fn container(source: &mut Source<'_>) -> Json {
    let members = vec![
        ("name", word(source.pick(&WORDS))),
        ("image", word(source.pick(&IMAGES))),
        ("env", anything(source, 1)),
        ("resources", Json::Object(Vec::new())),
    ];
    object(source, members)
}

fn volume(source: &mut Source<'_>) -> Json {
    let image = vec![
        ("reference", word(source.pick(&IMAGES))),
        ("pullPolicy", word("Always")),
    ];
    let content = if source.one_in(2) {
        ("emptyDir", Json::Object(Vec::new()))
    } else {
        ("image", object(source, image))
    };
    let members = vec![("name", word(source.pick(&WORDS))), content];
    object(source, members)
}

/// Writes values, in one of several styles.
struct Writer<'a, 's> {
    source: Source<'s>,
    style: u8,
    out: &'a mut String,
}

impl Writer<'_, '_> {
    fn space(&mut self) {
        if self.style & 1 == 1 {
            self.out
                .push_str(["", " ", "\n\t", "\r\n  "][self.source.choice(4)]);
        }
    }

    fn value(&mut self, value: &Json) {
        self.space();
        match value {
            Json::Null => self.out.push_str("null"),
            Json::Bool(value) => self.out.push_str(if *value { "true" } else { "false" }),
            Json::Number(text) => self.out.push_str(text),
            Json::Text(text) => self.text(text),
            Json::Deep(levels) => {
                self.out.push_str(&"[".repeat(*levels));
                self.out.push_str("[]");
                self.out.push_str(&"]".repeat(*levels));
            }
            Json::List(items) => {
                self.out.push('[');
                for (number, item) in items.iter().enumerate() {
                    if number > 0 {
                        self.out.push(',');
                    }
                    self.value(item);
                }
                self.space();
                self.out.push(']');
            }
            Json::Object(members) => {
                self.out.push('{');
                for (number, (key, value)) in members.iter().enumerate() {
                    if number > 0 {
                        self.out.push(',');
                    }
                    self.space();
                    self.text(key);
                    self.space();
                    self.out.push(':');
                    self.value(value);
                }
                self.space();
                self.out.push('}');
            }
        }
        self.space();
    }

    /// A string: as Go's encoder writes it, or with more escapes than anybody needs.
    fn text(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            let escape_all = self.style & 2 == 2 && self.source.one_in(3);
            match c {
                '"' if !escape_all => self.out.push_str("\\\""),
                '\\' if !escape_all => self.out.push_str("\\\\"),
                '\n' if !escape_all => self.out.push_str("\\n"),
                '\t' if !escape_all => self.out.push_str("\\t"),
                '/' if escape_all => self.out.push_str("\\/"),
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => self.escape(c),
                c if escape_all || c < ' ' => self.escape(c),
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn escape(&mut self, c: char) {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let unit = *unit;
            // Writing into a `String` can't fail.
            let _ = if self.style & 4 == 4 {
                write!(self.out, "\\u{unit:04X}")
            } else {
                write!(self.out, "\\u{unit:04x}")
            };
        }
    }
}
