//! What to do about a failure: one thing after the other, as a list has them, or joined into a clause as statuses, Events and
//! errors have them.

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remedy {
    /// What to do: a clause without a capital letter and without a full stop.
    pub(crate) text: String,
    /// The command that does it, or that shows what to look at.
    pub(crate) command: Option<String>,
}

/// Something to do without a command.
pub(crate) fn say(text: impl Into<String>) -> Remedy {
    Remedy {
        text: text.into(),
        command: None,
    }
}

/// Something to do by a command.
pub(crate) fn run(text: impl Into<String>, command: impl Into<String>) -> Remedy {
    Remedy {
        text: text.into(),
        command: Some(command.into()),
    }
}

/// Remedies as a clause; none without any.
pub(crate) fn joined(remedies: Vec<Remedy>) -> Option<String> {
    let clauses: Vec<_> = remedies
        .into_iter()
        .map(|Remedy { text, command }| match command {
            Some(command) => format!("{text}: `{command}`"),
            None => text,
        })
        .collect();
    (!clauses.is_empty()).then(|| clauses.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_are_joined_with_their_commands() {
        let remedies = vec![run("look", "ls -l"), say("wait")];
        assert_eq!(joined(remedies).as_deref(), Some("look: `ls -l`; wait"));
        assert_eq!(joined(Vec::new()), None);
    }
}
