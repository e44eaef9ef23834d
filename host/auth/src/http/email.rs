//! Verifying and changing e-mail addresses, by links in mails.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::exchange::Exchange;
use super::fields::{Fields, missing_in_query};
use super::reply::{Answer, Refusal, Reply};
use crate::accounts::VerifyEmail;
use crate::database::User;
use crate::limits;
use crate::mail::Mail;
use crate::secret::TokenError;
use crate::time::Time;
use crate::users::UsersError;

/// The claims of a link in a mail. Following the link proves that somebody reads mail at an
/// address.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claims {
    /// The account's current address.
    email: String,
    /// The new address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    update_to: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
}

/// The link went to the old address, to confirm the change.
const CONFIRMATION: &str = "change-email-confirmation";
/// The link went to the new address, to verify it.
const VERIFICATION: &str = "change-email-verification";

/// Sends a mail whose link says `claims`.
fn mail(
    exchange: &Exchange,
    to: &str,
    subject: &str,
    text: &str,
    claims: &Claims,
    callback: Option<&str>,
) {
    let now = Time::now();
    let token = exchange.inner().config.secret.token(claims, now, now + limits::LINK);
    let callback = callback.filter(|url| !url.is_empty()).unwrap_or("/");
    exchange.inner().mails.send(Mail {
        to: to.to_owned(),
        subject: subject.to_owned(),
        text: text.to_owned(),
        link: exchange.link("/verify-email", &[("token", &token), ("callbackURL", callback)]),
    });
}

/// Asks the owner of an address to verify it.
pub(super) fn mail_verification(exchange: &Exchange, user: &User, callback: Option<&str>) {
    let claims = Claims {
        email: user.email.to_lowercase(),
        update_to: None,
        request_type: None,
        user_id: Some(user.id.clone()),
    };
    let text = "Follow this link within the hour to verify your e-mail address. \
                If you did not just sign up, ignore it.";
    mail(exchange, &user.email, "Verify your e-mail address", text, &claims, callback);
}

/// Asks the owner of the new address to verify it.
fn mail_new_address(exchange: &Exchange, user: &User, new: &str, callback: Option<&str>) {
    let claims = Claims {
        email: user.email.to_lowercase(),
        update_to: Some(new.to_owned()),
        request_type: Some(VERIFICATION.into()),
        user_id: Some(user.id.clone()),
    };
    let text = "Follow this link within the hour to use this e-mail address for your account. \
                If you did not ask for that, ignore it.";
    mail(exchange, new, "Verify your new e-mail address", text, &claims, callback);
}

/// `POST /send-verification-email`
pub(super) async fn send_verification(exchange: &mut Exchange) -> Answer {
    let body = exchange.body.take();
    let mut fields = Fields::of(&body, &["object"])?;
    let email = fields.email("email");
    let callback = fields.optional_text("callbackURL");
    fields.finish()?;
    if exchange.inner().config.verify_email == VerifyEmail::Off {
        return Err(Refusal::VERIFICATION_EMAIL_NOT_ENABLED);
    }
    let Some((_, user)) = exchange.find_session(true).await? else {
        // A client that is not signed in learns nothing, not even from the response time.
        let answered = Instant::now() + limits::SAME_TIME;
        if let Some(user) = exchange.users().database.user_by_email(email).await?
            && !user.email_verified
        {
            mail_verification(exchange, &user, callback);
        }
        sleep_until(answered).await;
        return Reply::status();
    };
    if user.email.to_lowercase() != email.to_lowercase() {
        return Err(Refusal::EMAIL_MISMATCH);
    }
    if user.email_verified {
        return Err(Refusal::EMAIL_ALREADY_VERIFIED);
    }
    mail_verification(exchange, &user, callback);
    Reply::status()
}

/// `POST /change-email`
pub(super) async fn change(exchange: &mut Exchange) -> Answer {
    let body = exchange.body.take();
    let mut fields = Fields::of(&body, &["object"])?;
    let new = fields.email("newEmail").to_lowercase();
    let callback = fields.optional_text("callbackURL");
    fields.finish()?;
    let (session, mut user) = exchange.session().await?;
    if !exchange.inner().config.change_email {
        return Err(Refusal::CHANGE_EMAIL_DISABLED);
    }
    if new == user.email {
        return Err(Refusal::uncoded(StatusCode::BAD_REQUEST, "Email is the same"));
    }
    let mails = exchange.inner().config.verify_email != VerifyEmail::Off;
    if !mails && user.email_verified {
        let message = "Verification email isn't enabled";
        return Err(Refusal::uncoded(StatusCode::BAD_REQUEST, message));
    }
    // The answer does not reveal that somebody else has the address.
    if exchange.users().database.user_by_email(&new).await?.is_some() {
        return Reply::status();
    }
    if !mails {
        user.email = new;
        user.updated_at = Time::now();
        if !exchange.users().database.update_user(&user).await? {
            return Err(Refusal::UNAUTHORIZED);
        }
        exchange.set_session(&session, None);
    } else if user.email_verified {
        // The owner of the old address must agree first, so that a stolen session is not enough.
        let claims = Claims {
            email: user.email.to_lowercase(),
            update_to: Some(new.clone()),
            request_type: Some(CONFIRMATION.into()),
            user_id: Some(user.id.clone()),
        };
        let text = format!(
            "Follow this link within the hour to change the e-mail address of your account to \
             {new}. If you did not ask for that, ignore it, and change your password."
        );
        let subject = "Change your e-mail address";
        mail(exchange, &user.email, subject, &text, &claims, callback);
    } else {
        mail_new_address(exchange, &user, &new, callback);
    }
    Reply::status()
}

/// `GET /verify-email`: the target of links in mails.
pub(super) async fn verify(exchange: &mut Exchange) -> Answer {
    let token = exchange.query("token").ok_or_else(|| missing_in_query("token"))?.to_owned();
    let callback = exchange.query("callbackURL").map(str::to_owned);
    if let Some(url) = &callback {
        exchange.check_redirect(url, &Refusal::INVALID_CALLBACK_URL)?;
    }
    match follow(exchange, &token, callback.as_deref()).await {
        Ok(said) => match callback {
            None => Reply::json(&said),
            // The page asks for a password, as it does for a link to set a new one.
            Some(url) => match said["token"].as_str() {
                Some(token) => {
                    let url = exchange.with_parameter(&url, "token", token);
                    url.map(Reply::Redirect).ok_or(Refusal::INVALID_CALLBACK_URL)
                }
                None => Ok(Reply::Redirect(url)),
            },
        },
        Err(refusal) if refusal.status.is_server_error() => Err(refusal),
        Err(refusal) => match callback {
            None => Err(refusal.with_status(StatusCode::UNAUTHORIZED)),
            Some(url) => {
                let url = exchange.with_parameter(&url, "error", refusal.code());
                url.map(Reply::Redirect).ok_or(Refusal::INVALID_CALLBACK_URL)
            }
        },
    }
}

/// Carries out what a link says and returns the answer.
async fn follow(
    exchange: &mut Exchange,
    token: &str,
    callback: Option<&str>,
) -> Result<serde_json::Value, Refusal> {
    let claims: Claims =
        exchange.inner().config.secret.claims(token, Time::now()).map_err(|error| match error {
            TokenError::Invalid => Refusal::INVALID_TOKEN,
            TokenError::Expired => Refusal::TOKEN_EXPIRED,
        })?;
    if let Some(new) = &claims.update_to {
        return change_address(exchange, &claims, new, callback).await;
    }
    let user = exchange.users().database.user_by_email(&claims.email).await?;
    let mut user = user.ok_or(Refusal::USER_NOT_FOUND)?;
    if claims.user_id.is_some_and(|id| id != user.id) {
        return Err(Refusal::INVALID_TOKEN);
    }
    let mut said = json!({ "status": true, "user": null });
    if exchange.inner().config.verify_email != VerifyEmail::Require {
        if !user.email_verified {
            user.email_verified = true;
            user.updated_at = Time::now();
            exchange.users().database.update_user(&user).await?;
        }
        return Ok(said);
    }
    if !user.email_verified {
        let sign_up = exchange.sign_up();
        match exchange.users().verify(&mut user, sign_up.as_deref()).await {
            // Another link was followed in the meantime.
            Err(UsersError::Gone) => return Err(Refusal::INVALID_TOKEN),
            verified => verified?,
        }
    }
    // Also when the link is followed again: a mail scanner may have been first.
    if !exchange.users().has_password(&user.id).await? {
        said["token"] = exchange.users().start_reset(&user.id).await?.into();
    }
    Ok(said)
}

async fn change_address(
    exchange: &mut Exchange,
    claims: &Claims,
    new: &str,
    callback: Option<&str>,
) -> Result<serde_json::Value, Refusal> {
    let id = claims.user_id.as_deref().ok_or(Refusal::INVALID_TOKEN)?;
    let user = exchange.users().database.user(id).await?;
    let mut user = user.ok_or(Refusal::USER_NOT_FOUND)?;
    // The address has changed since.
    if user.email.to_lowercase() != claims.email {
        return Err(Refusal::INVALID_TOKEN);
    }
    let session = exchange.find_session(true).await?;
    if session.as_ref().is_some_and(|(_, who)| who.id != user.id) {
        return Err(Refusal::INVALID_USER);
    }
    match claims.request_type.as_deref() {
        Some(CONFIRMATION) => {
            mail_new_address(exchange, &user, new, callback);
            Ok(json!({ "status": true }))
        }
        Some(VERIFICATION) => {
            user.email = new.to_owned();
            user.updated_at = Time::now();
            // The link was sent to the new address, so `emailVerified` stays as it is.
            exchange.users().database.update_user(&user).await?;
            if let Some((session, _)) = session {
                exchange.set_session(&session, None);
            }
            Ok(json!({ "status": true, "user": user }))
        }
        _ => Err(Refusal::INVALID_TOKEN),
    }
}
