//! A JSON schema as rows of a table, one for each field.

use serde_json::Value;

use crate::table::code;

/// A field, with its whole path.
pub struct Field {
    pub path: String,
    pub kind: String,
    pub about: String,
}

impl Field {
    pub fn row(&self) -> [String; 3] {
        [code(&self.path), self.kind.clone(), self.about.clone()]
    }
}

/// A rule that the API server enforces, and the field that it is about.
pub struct Rule {
    pub path: String,
    pub message: String,
}

/// The fields of a schema and the rules on them, in the order of the schema.
pub struct Walk<'a> {
    root: &'a Value,
    pub fields: Vec<Field>,
    pub rules: Vec<Rule>,
}

/// A schema with what it refers to, and without the choice of `null`.
#[derive(Default)]
struct Resolved<'a> {
    /// The schema as it stands, then what it refers to: the first that has a key wins.
    parts: Vec<&'a Value>,
    is_nullable: bool,
}

impl<'a> Resolved<'a> {
    fn of(schema: &'a Value, root: &'a Value) -> Self {
        let mut resolved = Self::default();
        resolved.add(schema, root);
        resolved
    }

    fn add(&mut self, schema: &'a Value, root: &'a Value) {
        self.parts.push(schema);
        let kinds = schema.get("type").and_then(Value::as_array);
        self.is_nullable |= kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "null"));
        let reference = schema.get("$ref").and_then(Value::as_str);
        if let Some(target) = reference.and_then(|path| root.pointer(path.trim_start_matches('#'))) {
            self.add(target, root);
        }
        for list in ["anyOf", "allOf"] {
            for part in schema.get(list).and_then(Value::as_array).into_iter().flatten() {
                if part.get("type").is_some_and(|kind| kind == "null") {
                    self.is_nullable = true;
                } else {
                    self.add(part, root);
                }
            }
        }
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.parts.iter().find_map(|part| part.get(key))
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key)?.as_str()
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.get(key)?.as_u64()
    }

    /// The type's name, without `null`.
    fn kind(&self) -> Option<&'a str> {
        match self.get("type")? {
            Value::Array(kinds) => kinds
                .iter()
                .filter_map(Value::as_str)
                .find(|kind| *kind != "null"),
            kind => kind.as_str(),
        }
    }

    /// A type of Kubernetes' own, which its documentation describes.
    fn foreign(&self) -> Option<(&'static str, &'static str)> {
        let has = |key: &str| {
            self.get("properties")
                .is_some_and(|fields| fields.get(key).is_some())
        };
        if has("matchExpressions") {
            Some((
                "LabelSelector",
                "kubernetes-api/common-definitions/label-selector/#LabelSelector",
            ))
        } else if has("lastTransitionTime") {
            Some(("Condition", "generated/kubernetes-api/v1.36/#condition-v1-meta"))
        } else {
            None
        }
    }
}

impl<'a> Walk<'a> {
    /// Walks through a schema, whose fields have this path before theirs.
    pub fn of(root: &'a Value, path: &str) -> Self {
        let mut walk = Self {
            root,
            fields: Vec::new(),
            rules: Vec::new(),
        };
        walk.object(path, &Resolved::of(root, root));
        walk
    }

    /// The same of a part of the schema, to which it may refer.
    pub fn of_part(root: &'a Value, part: &'a Value) -> Self {
        let mut walk = Self {
            root,
            fields: Vec::new(),
            rules: Vec::new(),
        };
        walk.object("", &Resolved::of(part, root));
        walk
    }

    fn object(&mut self, path: &str, schema: &Resolved<'a>) {
        self.rules_of(path, schema);
        let required = schema.get("required").and_then(Value::as_array);
        let is_required = |name: &str| required.is_some_and(|all| all.iter().any(|one| one == name));
        let fields = schema.get("properties").and_then(Value::as_object);
        for (name, field) in fields.into_iter().flatten() {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            self.field(&path, &Resolved::of(field, self.root), is_required(name));
        }
    }

    fn field(&mut self, path: &str, schema: &Resolved<'a>, is_required: bool) {
        let items = schema.get("items").map(|items| Resolved::of(items, self.root));
        let inner = items.as_ref().unwrap_or(schema);
        self.fields.push(Field {
            path: path.to_owned(),
            kind: kind(schema, items.as_ref(), is_required && schema.is_nullable),
            about: about(schema, inner, is_required),
        });
        if inner.foreign().is_some() {
            return;
        }
        match items {
            Some(items) => {
                self.rules_of(path, schema);
                self.object(&format!("{path}[]"), &items);
            }
            None => self.object(path, schema),
        }
    }

    fn rules_of(&mut self, path: &str, schema: &Resolved) {
        for part in &schema.parts {
            let rules = part.get("x-kubernetes-validations").and_then(Value::as_array);
            for rule in rules.into_iter().flatten() {
                let at = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default();
                self.rules.push(Rule {
                    path: format!("{path}{}", at("fieldPath")),
                    message: at("message").to_owned(),
                });
            }
        }
    }
}

/// What a field is: its type, and the bounds that the schema sets.
fn kind(schema: &Resolved, items: Option<&Resolved>, may_be_null: bool) -> String {
    let one = |schema: &Resolved, null: &str| {
        let name = match schema.foreign() {
            Some((name, page)) => {
                format!("[{name}](https://kubernetes.io/docs/reference/{page})")
            }
            None => schema.kind().unwrap_or("string").to_owned(),
        };
        let length = match (schema.number("minLength"), schema.number("maxLength")) {
            (Some(least), Some(most)) => format!(", {least} to {most} characters"),
            (None, Some(most)) => format!(", at most {most} characters"),
            _ => String::new(),
        };
        let pattern = schema.text("pattern").map(|pattern| format!(", `{pattern}`"));
        name + null + &length + &pattern.unwrap_or_default()
    };
    match items {
        None => one(schema, if may_be_null { " or null" } else { "" }),
        Some(items) => {
            let most = schema
                .number("maxItems")
                .map(|most| format!("at most {most}, each "));
            format!("list: {}{}", most.unwrap_or_default(), one(items, ""))
        }
    }
}

/// What is reported about a field, whether it has to be there, and the values that it can have.
fn about(schema: &Resolved, inner: &Resolved, is_required: bool) -> String {
    let mut said: Vec<String> = Vec::new();
    if is_required {
        said.push("Required.".to_owned());
    }
    said.extend(schema.text("description").map(str::to_owned));
    if let Some(default) = schema
        .get("default")
        .filter(|default| !default.is_null() && !default.is_object())
    {
        let word = default
            .as_str()
            .map_or_else(|| default.to_string(), str::to_owned);
        if !said.iter().any(|text| text.contains("Default:")) {
            said.push(format!("Default: `{word}`."));
        }
    }
    if let Some(value) = schema.text("const") {
        said.push(format!("Always `{value}`."));
    }
    let words = inner.get("enum").and_then(Value::as_array).into_iter().flatten();
    let words: Vec<_> = words
        .filter_map(Value::as_str)
        .map(|word| format!("`{word}`"))
        .collect();
    if !words.is_empty() {
        said.push(format!("One of {}.", words.join(", ")));
    }
    let choices = inner.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    for choice in choices {
        let word = choice.get("const").and_then(Value::as_str).unwrap_or_default();
        let about = choice
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default();
        said.push(format!("<br>`{word}`: {about}"));
    }
    said.join(" ")
}
