//! Configuration of webhooks, mail and Telegram, which receive alarms and finished calls. (The alarm command is in
//! `alerts`.)

use std::path::PathBuf;

use crate::call::phrasebook::TextLanguage;

/// The receivers in the configuration sections `[alerts]` and `[webhook]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifyConfig {
    /// Name of this recorder (`calls.appliance`), for subject lines.
    pub appliance: String,
    /// Language of mail and Telegram. Webhooks are for programs and stay in English.
    pub(crate) language: TextLanguage,
    /// Webhook that gets alarms; `None` if none is configured.
    pub alarms: Option<WebhookConfig>,
    /// Webhook that gets finished calls; `None` if none is configured.
    pub calls: Option<WebhookConfig>,
    /// Mail server and addresses for alarms; `None` if no mail is sent.
    pub mail: Option<MailConfig>,
    /// Telegram chat for alarms; `None` if none is configured.
    pub telegram: Option<TelegramConfig>,
}

impl Default for NotifyConfig {
    fn default() -> Self {
        let appliance = crate::call::config::Config::default().appliance;
        Self { appliance, language: TextLanguage::En, alarms: None, calls: None, mail: None, telegram: None }
    }
}

/// A webhook: a URL to which messages are posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// URL to which messages are sent by POST.
    pub url: String,
    /// Secret with which messages are signed.
    pub secret: NotifySecret,
}

/// A mail server, and the sender and receivers of mail about alarms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailConfig {
    /// Mail server as `HOST:PORT`.
    pub server: String,
    /// Encryption of the connection to the server.
    pub tls: MailTls,
    /// Address in the From header of the mail.
    pub from: String,
    /// Addresses to which the mail is sent.
    pub to: Vec<String>,
    /// Login name at the server; empty if no login is needed.
    pub login: String,
    /// Password for the login, or the file that contains it.
    pub password: NotifySecret,
}

/// Encryption of the connection to a mail server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MailTls {
    /// The connection starts unencrypted and changes to TLS by STARTTLS (RFC 3207). If the server does not offer
    /// STARTTLS, no mail is sent.
    #[default]
    StartTls,
    /// TLS from the first byte of the connection (RFC 8314).
    Tls,
    /// No encryption: others in the network can read mail and password.
    None,
}

/// A chat of Telegram, and the bot that writes to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelegramConfig {
    /// URL of the Bot API of Telegram. Tests use another server.
    pub url: String,
    /// Secret token of the bot.
    pub token: NotifySecret,
    /// Id of the chat that gets the alarms.
    pub chat: String,
}

/// A secret, or the file that contains it. The secret is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NotifySecret {
    /// The secret, if the configuration itself contains it; `None` otherwise.
    pub(crate) text: Option<String>,
    /// File that contains the secret; `None` if there is no file. It is read at each use, so a new secret needs no
    /// restart.
    pub(crate) file: Option<PathBuf>,
}

impl NotifySecret {
    /// Returns the secret from the configuration or from the file; `None` if neither is configured.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is empty.
    pub(crate) fn read(&self) -> Result<Option<String>, String> {
        let Some(file) = &self.file else { return Ok(self.text.clone()) };
        let failed = |error: std::io::Error| format!("the secret in {} cannot be read: {error}", file.display());
        let text = std::fs::read_to_string(file).map_err(failed)?;
        match text.trim() {
            "" => Err(format!("the secret in {} is empty", file.display())),
            text => Ok(Some(text.to_owned())),
        }
    }
}

impl std::fmt::Debug for NotifySecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NotifySecret({}, {:?})", if self.text.is_some() { "…" } else { "none" }, self.file)
    }
}
