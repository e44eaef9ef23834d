//! Signing up, in and out.

use serde_json::json;

use super::email;
use super::exchange::Exchange;
use super::fields::Fields;
use super::reply::{Answer, Refusal, Reply};
use crate::accounts::{SignUp, VerifyEmail};
use crate::database::User;
use crate::limits;
use crate::secret;
use crate::time::Time;
use crate::users::{NewUser, UsersError, check_length, is_email};

/// `POST /sign-up/email`
pub(super) async fn up(exchange: &mut Exchange) -> Answer {
    let body = exchange.body.take();
    let mut fields = Fields::of(&body, &["object", "record"])?;
    let name = fields.text("name");
    let email = fields.email("email");
    let password = fields.some_text("password");
    let image = fields.optional_text("image");
    let callback = fields.optional_text("callbackURL");
    let remember = fields.optional_flag("rememberMe");
    let invitation = fields.raw("invitation").and_then(|token| token.as_str());
    fields.finish()?;
    if name.len() > limits::NAME {
        return Err(Refusal::told(
            axum::http::StatusCode::BAD_REQUEST,
            format!("[body.name] Too big: expected string to have <={} bytes", limits::NAME),
            "VALIDATION_ERROR",
        ));
    }
    let invitation = match exchange.inner().config.sign_up {
        SignUp::Open => None,
        SignUp::Closed => return Err(Refusal::EMAIL_PASSWORD_SIGN_UP_DISABLED),
        SignUp::Invite => {
            let token = invitation.ok_or(Refusal::INVITATION_REQUIRED)?;
            // Checked first, so that only invited people learn whether the account exists.
            if !exchange.users().is_invited(token, email).await? {
                return Err(Refusal::INVALID_INVITATION);
            }
            Some(token)
        }
    };
    check_length(password)?;
    let require = exchange.inner().config.verify_email == VerifyEmail::Require;
    let new = NewUser {
        name: name.to_owned(),
        email: email.to_owned(),
        password: password.to_owned(),
        image: image.map(str::to_owned),
    };
    if let Some(user) = exchange.users().database.user_by_email(email).await? {
        if !require {
            return Err(Refusal::USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL);
        }
        // The answer is the same as for a new account, so it does not reveal that this one exists.
        // If the address was never verified, somebody else may have signed up with it: the password
        // that counts is that of the browser that follows a link.
        let id = exchange.users().keep_claim(&user, &new).await?;
        if !user.email_verified {
            email::mail_verification(exchange, &user, callback);
        }
        exchange.set_sign_up(&id);
        return Reply::json(&json!({ "token": null, "user": nobody(new, id) }));
    }
    let short = remember == Some(false);
    let visit = (!require).then(|| exchange.visit(short));
    let created = exchange.users().create(new.clone(), visit, invitation).await;
    let (user, session) = match created {
        // A concurrent request signed up with the address, or used the invitation.
        Err(UsersError::Taken) if require => {
            let id = secret::random(32);
            exchange.set_sign_up(&id);
            return Reply::json(&json!({ "token": null, "user": nobody(new, id) }));
        }
        Err(UsersError::Gone) => return Err(Refusal::INVALID_INVITATION),
        created => created?,
    };
    if exchange.inner().config.verify_email != VerifyEmail::Off {
        email::mail_verification(exchange, &user, callback);
    }
    let Some(session) = session else {
        exchange.set_sign_up(&user.id);
        return Reply::json(&json!({ "token": null, "user": user }));
    };
    exchange.set_session(&session, Some(short));
    Reply::json(&json!({ "token": session.token, "user": user }))
}

/// What a newly created account would look like.
fn nobody(new: NewUser, id: String) -> User {
    let now = Time::now();
    User {
        name: new.name,
        email: new.email.to_lowercase(),
        email_verified: false,
        image: new.image,
        created_at: now,
        updated_at: now,
        id,
    }
}

/// `POST /sign-in/email`
pub(super) async fn in_(exchange: &mut Exchange) -> Answer {
    let body = exchange.body.take();
    let mut fields = Fields::of(&body, &["object"])?;
    let email = fields.text("email");
    let password = fields.text("password");
    let callback = fields.optional_text("callbackURL");
    let remember = fields.optional_flag("rememberMe");
    fields.finish()?;
    if !is_email(email) {
        return Err(Refusal::INVALID_EMAIL);
    }
    let callback = callback.filter(|url| !url.is_empty());
    if check_length(password) == Err(crate::users::PasswordError::Long) {
        return Err(Refusal::PASSWORD_TOO_LONG);
    }
    let user = exchange.users().check(email, password).await?;
    let user = user.ok_or(Refusal::INVALID_EMAIL_OR_PASSWORD)?;
    if exchange.inner().config.verify_email == VerifyEmail::Require && !user.email_verified {
        email::mail_verification(exchange, &user, callback);
        // This browser knows the password, so it may keep it if it also reads the mail.
        exchange.set_sign_up(&user.id);
        return Err(Refusal::EMAIL_NOT_VERIFIED);
    }
    let short = remember == Some(false);
    let session = exchange.users().start_session(&user.id, exchange.visit(short)).await?;
    exchange.set_session(&session, Some(short));
    match callback {
        None => Reply::json(&json!({ "redirect": false, "token": session.token, "user": user })),
        Some(url) => {
            exchange.set_location(url)?;
            let token = &session.token;
            Reply::json(&json!({ "redirect": true, "token": token, "url": url, "user": user }))
        }
    }
}

/// `POST /sign-in/social`: there are no providers.
pub(super) fn in_social(exchange: &mut Exchange) -> Answer {
    let body = exchange.body.take();
    let mut fields = Fields::of(&body, &["object"])?;
    fields.text("provider");
    fields.finish()?;
    Err(Refusal::PROVIDER_NOT_FOUND)
}

/// `POST /sign-out`
pub(super) async fn out(exchange: &mut Exchange) -> Answer {
    let body = exchange.body.take();
    if body.is_some() {
        let mut fields = Fields::of(&body, &["object"])?;
        fields.optional_text("callbackURL");
        fields.optional_flag("disableRedirect");
        fields.optional_text("state");
        fields.finish()?;
    }
    if let Some(token) = exchange.token() {
        exchange.users().end_session(&token).await?;
    }
    exchange.expire_cookies();
    Reply::json(&json!({ "success": true }))
}
