//! The fields of the audit log's records, of the schema that its tests hold the records to.

use std::fs;

use serde_json::Value;

use crate::schema::{Field, Walk};
use crate::table::{head, table};
use crate::{ROOT, Test, hold};

const SCHEMA: &str = "docs/audit.schema.json";

#[test]
fn the_reference_has_the_fields_of_an_audit_record() -> Test {
    let schema: Value = serde_json::from_str(&fs::read_to_string(format!("{ROOT}/{SCHEMA}"))?)?;
    let mut page = head("Audit records", &format!("`{SCHEMA}`"));
    page.push_str(
        "Each line of the audit log is a JSON object: a decision, or a note about decisions that are missing before it.\n\
         [audit.md](../audit.md) explains the log and how to query it; [audit.schema.json](../audit.schema.json) is the schema.\n",
    );
    for (title, part, about) in [
        (
            "A decision",
            "decision",
            "One for each review that the webhook answers.",
        ),
        ("Missing decisions", "gap", ""),
    ] {
        let part = schema
            .pointer(&format!("/$defs/{part}"))
            .ok_or("the schema lacks a part")?;
        let about = part.get("description").and_then(Value::as_str).unwrap_or(about);
        let rows: Vec<_> = Walk::of_part(&schema, part)
            .fields
            .iter()
            .map(Field::row)
            .collect();
        let fields = table(["field", "type", "what it is"], &rows);
        page.extend([format!("\n## {title}\n\n{about}\n\n{fields}")]);
    }
    assert!(page.contains("| `images[].reference` |"), "{page}");
    hold("docs/reference/audit-record.md", &page)
}
