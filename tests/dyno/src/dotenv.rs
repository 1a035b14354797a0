//! `.env` files as `heroku local` reads them (CLI 11.10, `dist/lib/local/foreman/envs.cjs`): values are literal, `$NAME`
//! is not expanded, `#` starts a comment even inside a word, and a file may be JSON.

use serde_json::Value;

/// Number of the first line with a quote that is not closed, from 1. The text is left out: it may be secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnclosedQuote(pub usize);

/// The variables of a file in order. When a name occurs twice, the last value applies.
///
/// # Errors
/// [`UnclosedQuote`]; `heroku local` rejects such a file too.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, UnclosedQuote> {
    let text = text.trim_start_matches('\u{feff}');
    if let Ok(json @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(text) {
        let mut vars = Vec::new();
        flatten(&json, "", &mut vars);
        return Ok(vars);
    }
    let mut vars = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        // `heroku local` skips lines of one or two characters too.
        if line.starts_with('#') || line.chars().count() <= 2 {
            continue;
        }
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        if !name.trim().is_empty() {
            let value = unquote(value.trim()).ok_or(UnclosedQuote(index + 1))?;
            vars.push((name.trim().to_owned(), value.to_owned()));
        }
    }
    Ok(vars)
}

/// A quoted value ends at the next quote (there are no escapes); an unquoted one ends at a comment.
fn unquote(value: &str) -> Option<&str> {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            return rest.split_once(quote).map(|(inside, _)| inside);
        }
    }
    value.split('#').next().map(str::trim_end)
}

/// Nested keys are joined with `_`: `{"a": {"b": 1}}` is `A_B=1`.
fn flatten(value: &Value, path: &str, vars: &mut Vec<(String, String)>) {
    let child = |key: &str| {
        if path.is_empty() { key.to_uppercase() } else { format!("{path}_{}", key.to_uppercase()) }
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| flatten(value, &child(key), vars)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(key, value)| flatten(value, &child(&key.to_string()), vars));
        }
        Value::Null => {}
        Value::String(text) => vars.push((path.to_owned(), text.clone())),
        Value::Bool(_) | Value::Number(_) => vars.push((path.to_owned(), value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        parse(text).expect("can be read")
    }

    /// The expected values are what the function of the CLI returned.
    #[test]
    fn values_are_parsed_as_the_cli_parses_them() {
        for (line, value) in [
            ("A=b", "b"),
            ("A = b ", "b"),
            ("A=pa$$word$HOME", "pa$$word$HOME"),
            ("A=postgres://u:p$1@h/d?x=y", "postgres://u:p$1@h/d?x=y"),
            ("A=unquoted with spaces", "unquoted with spaces"),
            ("A={\"a\": [1, \"b\"]}", "{\"a\": [1, \"b\"]}"),
            ("A=\"one # two\" # three", "one # two"),
            ("A='it is' rest", "it is"),
            ("A=\"a\\\"b\"", "a\\"),
            ("A=x\"y", "x\"y"),
            ("A=word # comment", "word"),
            ("A=pass#word", "pass"),
            ("A=\\n`date`", "\\n`date`"),
            ("A=\"\"", ""),
            ("A=#", ""),
            ("\u{feff}A=b\r", "b"),
        ] {
            assert_eq!(parsed(line), [("A".to_owned(), value.to_owned())], "{line}");
        }
    }

    #[test]
    fn lines_without_a_value_are_skipped() {
        assert_eq!(
            parsed("\n# A=b\n  #x=y\nA=\n=b\n \t\nNAME\nexport B=c\n"),
            [("NAME".to_owned(), String::new()), ("export B".to_owned(), "c".to_owned()),]
        );
    }

    #[test]
    fn a_file_may_be_json() {
        let vars = parsed("{\"a\": {\"b\": \"c\", \"d\": [1, true, null]}, \"E\": 0.5}");
        let vars: Vec<(&str, &str)> = vars.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(vars, [("E", "0.5"), ("A_B", "c"), ("A_D_0", "1"), ("A_D_1", "true")]);
    }

    #[test]
    fn an_unclosed_quote_is_an_error() {
        assert_eq!(parse("A=b\n# c\nB='secret\n"), Err(UnclosedQuote(3)));
        assert_eq!(parse("A=\"se'cret"), Err(UnclosedQuote(1)));
    }
}
