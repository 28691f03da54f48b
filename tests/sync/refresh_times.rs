//! When a credential is refreshed: the fraction of its life that the spec says, or half of it, and up to a tenth of that
//! earlier.

use std::error::Error;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use pullpass_emulator::Lifetimes;
use serde_json::{Value, json};

use crate::world::{Test, World, shared, text};

/// When the token of a pull secret was issued and when it expires, as it says itself.
fn token_times(secret: &Value, host: &str) -> Result<(i64, i64), Box<dyn Error>> {
    let config: Value = serde_json::from_str(&World::docker_config(secret)?)?;
    let auth = config.get("auths").and_then(|auths| auths.get(host));
    let token = text(auth.ok_or("there is nothing for the host")?, "/password");
    let claims = token.split('.').nth(1).ok_or("the password is no token")?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
    let seconds = |claim: &str| {
        let claim = claims.get(claim).and_then(Value::as_i64);
        claim.ok_or("the token says no times")
    };
    Ok((seconds("iat")?, seconds("exp")?))
}

#[test]
fn the_next_refresh_is_at_its_fraction_of_the_life() -> Test {
    let world = shared()?;
    for (fraction, credential) in [
        (0.5, json!({})),
        (0.1, json!({"refreshFraction": 0.1})),
        (0.9, json!({"refreshFraction": 0.9})),
    ] {
        let login = world.attached(&json!({"credential": credential}))?;
        let namespace = world.namespace_in_need(&login)?;
        let secret = world.wait_for_secret(&namespace, &login)?;
        let (issued, expires) = token_times(&secret, &login.host)?;
        assert_eq!(expires - issued, i64::from(Lifetimes::default().refresh_seconds));

        let object = world.registry(&login)?;
        let time = |field: &str| -> Result<i64, Box<dyn Error>> {
            let time: Timestamp = text(&object, &format!("/status/credential/{field}")).parse()?;
            Ok(time.as_second())
        };
        // The token's own times are when the service made it, and the status' count from when pullpass began to ask for it:
        // they are earlier by what that took, and by the second that the answer's Date is cut to, and never later.
        let (began, ends) = (time("issuedAt")?, time("expiresAt")?);
        assert!((0..60).contains(&(issued - began)), "{object:#}");
        assert!((0..60).contains(&(expires - ends)), "{object:#}");
        #[expect(clippy::cast_precision_loss, reason = "hours, in seconds")]
        let (wait, life) = ((time("nextRefresh")? - began) as f64, (ends - began) as f64);
        // Times in the status are cut to seconds.
        let (latest, earliest) = (life * fraction + 1.0, life * fraction * 0.9 - 1.0);
        assert!(
            wait >= earliest && wait <= latest,
            "{fraction}: {wait} is not within {earliest} and {latest}"
        );
    }
    Ok(())
}
