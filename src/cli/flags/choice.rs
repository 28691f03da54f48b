//! Flags whose value is one of a few.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// A parser for some values by their names, in any case where the flag ignores it. What they are of does not know the command
/// line.
pub(in crate::cli) fn one_of<T, const N: usize>(
    all: [T; N],
    describe: impl Fn(T) -> PossibleValue,
) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let described = all.map(|value| (value, describe(value)));
    PossibleValuesParser::new(described.clone().map(|(_, name)| name)).try_map(move |given| {
        let found = described.iter().find(|(_, name)| name.matches(&given, true));
        found.map(|(value, _)| *value).ok_or("not one of the values")
    })
}
