//! The value of `sasl.jaas.config`.

use std::collections::BTreeMap;

/// `<login module class> required name="value" …;` The class without its package, and the options.
///
/// The grammar is that of `javax.security.auth.login.Configuration`, read as Kafka's `JaasConfig` reads it.
pub fn parse(text: &str) -> Option<(String, BTreeMap<String, String>)> {
    let mut words = Vec::new();
    let mut rest = text.trim().strip_suffix(';')?.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            c if c.is_whitespace() => {}
            '=' => words.push((String::from("="), false)),
            '"' | '\'' => {
                let mut word = String::new();
                loop {
                    match rest.next()? {
                        it if it == c => break,
                        '\\' => word.push(rest.next()?),
                        it => word.push(it),
                    }
                }
                words.push((word, true));
            }
            c => {
                let mut word = String::from(c);
                while let Some(next) =
                    rest.next_if(|it| !it.is_whitespace() && !matches!(it, '=' | '"' | '\''))
                {
                    word.push(next);
                }
                words.push((word, false));
            }
        }
    }
    let mut words = words.into_iter();
    let (class, _) = words.next()?;
    let (flag, _) = words.next()?;
    if !["required", "requisite", "sufficient", "optional"].contains(&flag.to_lowercase().as_str()) {
        return None;
    }
    let mut options = BTreeMap::new();
    while let Some((name, _)) = words.next() {
        if words.next() != Some(("=".to_owned(), false)) {
            return None;
        }
        let (value, quoted) = words.next()?;
        if !quoted && value == "=" {
            return None;
        }
        options.insert(name, value);
    }
    Some((class.rsplit('.').next().unwrap_or_default().to_owned(), options))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn login_modules_are_read_with_their_options() {
        let (class, options) = parse(
            " org.apache.kafka.common.security.scram.ScramLoginModule required\n username=\"a\\\"b\" password='p;=q' debug=true ; ",
        )
        .unwrap();
        assert_eq!(class, "ScramLoginModule");
        assert_eq!(options["username"], "a\"b");
        assert_eq!(options["password"], "p;=q");
        assert_eq!(options["debug"], "true");
        assert!(
            parse("software.amazon.msk.auth.iam.IAMLoginModule required;")
                .unwrap()
                .1
                .is_empty()
        );
        for wrong in [
            "",
            ";",
            "a;",
            "a required b;",
            "a required b=;",
            "a required b=\"c;",
            "a needed;",
            "a required b=c",
        ] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_password_is_read_back(password: String) {
            let escaped = password.replace('\\', "\\\\").replace('"', "\\\"");
            let text = format!("x.PlainLoginModule required username=u password=\"{escaped}\";");
            prop_assert_eq!(&parse(&text).unwrap().1["password"], &password);
        }

        #[test]
        fn no_text_panics(text: String) {
            parse(&text);
        }
    }
}
