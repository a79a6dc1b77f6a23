//! Sends one message to one receiver. Error texts contain neither a secret nor the content of a message.

use std::time::Duration;

use hmac::{Hmac, Mac};
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Message, SmtpTransport, Transport as _};
use reqwest::StatusCode;
use sha2::Sha256;

use super::NotifyRoute;
use super::config::{MailConfig, MailTls, NotifyConfig, TelegramConfig, WebhookConfig};
use super::messages::AlarmMessage;
use crate::call::phrasebook::TextLanguage;
use crate::ops::alarm_text;
use crate::text::{error_chain, hex};
use crate::time::Timestamp;

/// Sends messages to webhooks, mail and Telegram, one at a time.
pub(super) struct NotifySender {
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
}

/// A message that is ready to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageText<'a> {
    /// Key of the message. A repetition has the same key, so that the receiver can drop it.
    pub(super) key: &'a str,
    /// The message as JSON.
    pub(super) body: &'a str,
}

/// Reason why a receiver did not accept a message.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotifyError {
    /// The receiver cannot be reached or is busy, for this reason.
    #[error("{0}")]
    Away(String),
    /// The receiver refuses the message, or the configuration is wrong. The text is the reason. A later try helps only
    /// if a person has acted.
    #[error("{0}")]
    Refused(String),
}

impl NotifyError {
    /// Returns whether a later try may succeed without the help of a person: true for `Away`, false for `Refused`.
    pub(super) const fn is_retryable(&self) -> bool {
        matches!(self, Self::Away(_))
    }
}

impl NotifySender {
    pub(super) fn new() -> std::io::Result<Self> {
        // `install_default` fails if the process already has a default crypto provider. Then that provider is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let http = reqwest::Client::builder()
            .user_agent(concat!("callspan/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .http1_only()
            .build()
            .map_err(std::io::Error::other)?;
        Ok(Self { runtime, http })
    }

    /// Sends a message to its receiver. `now` is the wall-clock time, which a webhook's signature covers.
    pub(super) fn send(
        &self,
        config: &NotifyConfig,
        route: NotifyRoute,
        message: MessageText<'_>,
        now: Timestamp,
    ) -> Result<(), NotifyError> {
        let alarm = || serde_json::from_str(message.body).map_err(|error| NotifyError::Refused(error.to_string()));
        match (route, &config.alarms, &config.calls, &config.mail, &config.telegram) {
            (NotifyRoute::AlarmWebhook, Some(hook), ..) | (NotifyRoute::CallWebhook, _, Some(hook), ..) => {
                self.post(hook, message, now)
            }
            (NotifyRoute::Mail, _, _, Some(mail), _) => send_mail(mail, &alarm()?, config.language),
            (NotifyRoute::Telegram, .., Some(telegram)) => self.tell(telegram, &alarm()?, config.language),
            _ => Err(NotifyError::Refused(String::from("this receiver is not configured any more"))),
        }
    }

    /// Posts a message body to a webhook, with its key, time and signature as headers.
    fn post(&self, hook: &WebhookConfig, message: MessageText<'_>, now: Timestamp) -> Result<(), NotifyError> {
        let MessageText { key, body } = message;
        let seconds = now.as_micros() / MICROS;
        let mut request = self
            .http
            .post(&hook.url)
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .header("x-callspan-timestamp", seconds.to_string());
        if let Some(secret) = hook.secret.read().map_err(NotifyError::Refused)? {
            request = request.header("x-callspan-signature", format!("sha256={}", signature(&secret, seconds, body)));
        }
        self.finish(request.body(body.to_owned()))
    }

    fn tell(
        &self,
        telegram: &TelegramConfig,
        message: &AlarmMessage,
        language: TextLanguage,
    ) -> Result<(), NotifyError> {
        let token = telegram.token.read().map_err(NotifyError::Refused)?.unwrap_or_default();
        let title = alarm_text::subject(&message.appliance, &message.alarm, language);
        let text = format!("{title}\n\n{}", alarm_text::message(&message.alarm, language));
        let text: String = text.chars().take(TELEGRAM_CHARS).collect();
        let body = serde_json::json!({ "chat_id": telegram.chat, "text": text });
        self.finish(self.http.post(format!("{}/bot{token}/sendMessage", telegram.url)).json(&body))
    }

    fn finish(&self, request: reqwest::RequestBuilder) -> Result<(), NotifyError> {
        let status = self.runtime.block_on(async { request.send().await.map(|response| response.status()) });
        // The URL of Telegram contains the secret token, so the URL is removed from the error.
        let status = status.map_err(|error| NotifyError::Away(error_chain(&error.without_url())))?;
        if status.is_success() {
            return Ok(());
        }
        let is_passing = status.is_server_error()
            || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
        let text = format!("the receiver answers HTTP {}", status.as_u16());
        Err(if is_passing { NotifyError::Away(text) } else { NotifyError::Refused(text) })
    }
}

/// Returns the signature of a message: HMAC-SHA256 (RFC 2104) over `TIMESTAMP.BODY`, hexadecimal. The receiver can
/// compare the timestamp with its clock and refuse an intercepted message that is sent again later.
pub(super) fn signature(secret: &str, seconds: i64, body: &str) -> String {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body.as_bytes());
    hex(&mac.finalize().into_bytes())
}

fn send_mail(mail: &MailConfig, message: &AlarmMessage, language: TextLanguage) -> Result<(), NotifyError> {
    let wrong = |address: &str| NotifyError::Refused(format!("{address} is no mail address"));
    let mut builder = Message::builder().from(mail.from.parse().map_err(|_| wrong(&mail.from))?);
    for address in &mail.to {
        builder = builder.to(address.parse().map_err(|_| wrong(address))?);
    }
    let text = alarm_text::message(&message.alarm, language);
    let title = alarm_text::subject(&message.appliance, &message.alarm, language);
    let letter = builder.subject(title).header(ContentType::TEXT_PLAIN).body(text);
    let letter = letter.map_err(|error| NotifyError::Refused(error.to_string()))?;
    let Err(error) = transport(mail)?.send(&letter) else { return Ok(()) };
    let text = format!("the mail server {}: {}", mail.server, error_chain(&error));
    Err(if error.is_permanent() { NotifyError::Refused(text) } else { NotifyError::Away(text) })
}

fn transport(mail: &MailConfig) -> Result<SmtpTransport, NotifyError> {
    let (host, port) = mail.server.rsplit_once(':').unwrap_or((&mail.server, "587"));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let parameters = || TlsParameters::new(host.to_owned()).map_err(|error| NotifyError::Refused(error_chain(&error)));
    let tls = match mail.tls {
        MailTls::StartTls => Tls::Required(parameters()?),
        MailTls::Tls => Tls::Wrapper(parameters()?),
        MailTls::None => Tls::None,
    };
    let mut builder = SmtpTransport::builder_dangerous(host)
        .port(port.parse().unwrap_or(SUBMISSION_PORT))
        .tls(tls)
        .timeout(Some(TIMEOUT));
    if !mail.login.is_empty() {
        let password = mail.password.read().map_err(NotifyError::Refused)?.unwrap_or_default();
        builder = builder.credentials(Credentials::new(mail.login.clone(), password));
    }
    Ok(builder.build())
}

/// Maximum time for sending one message. After this time the try counts as failed.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum length of a Telegram message, characters. Telegram allows 4,096, so there is room for markup.
const TELEGRAM_CHARS: usize = 4_000;
/// TCP port for the submission of mail (RFC 6409).
const SUBMISSION_PORT: u16 = 587;
const MICROS: i64 = 1_000_000;
