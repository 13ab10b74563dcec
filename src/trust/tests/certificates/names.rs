use super::{
    super::{authority::Acme, verdicts::FILES},
    verify,
};
use crate::trust::{Anchor, Authority, Kind, Pattern, Roots, Wanted};

#[test]
fn names_are_compared_as_a_whole() {
    let parts =
        |text: &str| Wanted::new(Some(Pattern::exact(text)), None).map(|wanted| wanted.to_string()).map_err(|(_, why)| why);
    assert_eq!(parts("cn = Models , o=Acme"), Ok("CN=Models,O=Acme".to_owned()));
    assert_eq!(parts(r"CN=Models\, Inc.\2c+OU=b"), Ok(r"CN=Models\, Inc.\,+OU=b".to_owned()));
    assert_eq!(parts(r"CN=\ a\ ,1.2.3=#0C0141"), Ok(r"CN=\ a\ ,1.2.3=#0c0141".to_owned()));
    for (bad, fragment) in [
        ("Models", "is no attribute"),
        ("/CN=Models/O=Acme", "no type of attribute"),
        ("CN=a,,O=b", "is no attribute"),
        ("CN=", "no value"),
        ("CN=a\\", "ends with a backslash"),
        ("CN=\"a\"", "needs a backslash"),
        ("CN=#0g", "not hexadecimal"),
        ("1.2.3=a", "#HEX"),
        ("CN=\\c", "needs two"),
        ("CN=\\ff", "not UTF-8"),
        ("", "empty"),
    ] {
        let why = parts(bad).unwrap_err();
        assert!(why.contains(fragment), "{bad}: {why}");
    }
    let Acme { root, middle, models } = &Acme::new();
    let fits = |pattern: &str| {
        let wanted = Wanted::new(None, Some((Kind::Uri, Pattern::regex(pattern)))).map_err(|(_, why)| why)?;
        let anchor = Anchor::Certificate(Authority::new(Roots::from_pem(&root.pem()).unwrap(), wanted));
        verify(&models.signs(&FILES, &[middle]), &anchor).map(drop).map_err(|rejected| rejected.message)
    };
    assert_eq!(fits("spiffe://acme[.]example/[a-z]+"), Ok(()));
    assert!(fits("acme").unwrap_err().contains("and wanted is URI:the pattern acme"), "only the whole name");
    assert!(fits("spiffe://acme[.]example/|x").unwrap_err().contains("wanted is"), "an alternative does not loosen the ends");
    assert!(fits("a)|(.*").is_err() && fits(".*").unwrap_err().contains("anybody"));
    let subject = |pattern: &str| {
        let wanted = Wanted::new(Some(Pattern::regex(pattern)), None).unwrap();
        verify(
            &models.signs(&FILES, &[middle]),
            &Anchor::Certificate(Authority::new(Roots::from_pem(&root.pem()).unwrap(), wanted)),
        )
    };
    assert!(subject("CN=mod[a-z]+,O=Acme").is_ok() && subject("CN=mod[a-z]+").is_err());
}
