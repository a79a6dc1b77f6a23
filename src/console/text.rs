//! The texts of the pages in English and Russian. Both languages of a text stand side by side in the code, so that no
//! translation can be missing.

use axum::extract::Request;
use axum::http::header;
use maud::{Markup, html};

use super::access::cookie;
use super::accounts::AccountRight;
use crate::call::phrasebook::{Phrasebook, russian_form};
use crate::call::reason_ru::russian_reason;
use crate::call::record::{
    CallDirection, CallOutcome, CallVerdict, DeliveryState, EndedBy, EventKind, ProblemKind, Side, T38_REFUSED,
};
use crate::journal::HeardClass;
use crate::time::Timestamp;

/// Language of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lang {
    /// The page is in English.
    En,
    /// The page is in Russian.
    Ru,
}

impl Lang {
    /// Returns the language of a request: the query `lang`, then the cookie, then the browser's first preference.
    pub(super) fn of(request: &Request) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let asked = query.split('&').find_map(|pair| pair.strip_prefix("lang="));
        let kept = || cookie(request.headers(), COOKIE);
        let accepted = || request.headers().get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        match asked.or_else(kept).or_else(accepted) {
            Some(word) if word.get(..2).is_some_and(|two| two.eq_ignore_ascii_case("ru")) => Self::Ru,
            _ => Self::En,
        }
    }

    /// Returns the language code for the HTML attribute `lang`.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Ru => "ru",
        }
    }

    /// Returns the English or the Russian text, whichever is in this language.
    pub(super) const fn of_two<'t>(self, en: &'t str, ru: &'t str) -> &'t str {
        match self {
            Self::En => en,
            Self::Ru => ru,
        }
    }

    /// Formats a number with a noun, e.g. `3 calls`. `en` has the singular and the plural of the noun; `ru` has its
    /// forms after 1, 2 and 5.
    pub(super) fn count(self, n: u64, en: [&str; 2], ru: [&str; 3]) -> String {
        let form = match self {
            Self::En => en[usize::from(n != 1)],
            Self::Ru => russian_form(n, ru),
        };
        format!("{} {form}", self.grouped(n))
    }

    /// Formats a number with its thousands grouped.
    pub(super) fn grouped(self, n: u64) -> String {
        let digits = n.to_string();
        let mark = if self == Self::En { ',' } else { '\u{202f}' };
        let mut out = String::new();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                out.push(mark);
            }
            out.push(digit);
        }
        out
    }

    /// Formats a decimal number with `places` digits after the separator.
    pub(super) fn decimal(self, value: f64, places: usize) -> String {
        let text = format!("{value:.places$}");
        if self == Self::Ru { text.replace('.', ",") } else { text }
    }

    /// Returns the text for a class of calls, i.e. how much of a call can be heard.
    pub(super) const fn heard(self, class: HeardClass) -> &'static str {
        match class {
            HeardClass::Both => self.of_two("both sides", "обе стороны"),
            HeardClass::One => self.of_two("one side", "одна сторона"),
            HeardClass::Nothing => self.of_two("no sound seen", "звука не было"),
            HeardClass::Locked => self.of_two("encrypted", "зашифровано"),
            HeardClass::Lost => self.of_two("lost by us", "потеряно нами"),
            HeardClass::Excluded => self.of_two("excluded by rule", "исключено правилом"),
            HeardClass::Unanswered => self.of_two("not answered", "без ответа"),
            HeardClass::Pending => self.of_two("not ready yet", "ещё не готово"),
        }
    }

    /// Returns a text of a few words for the verdict of a call, i.e. whether the call can be heard.
    pub(super) const fn verdict(self, verdict: Option<CallVerdict>) -> &'static str {
        match verdict {
            None => self.of_two("not ready yet", "ещё не готово"),
            Some(CallVerdict::BothSides) => self.of_two("both sides", "обе стороны"),
            Some(CallVerdict::CallerOnly) => self.of_two("caller only", "только звонивший"),
            Some(CallVerdict::CalleeOnly) => self.of_two("callee only", "только ответивший"),
            Some(CallVerdict::Excluded) => self.of_two("excluded by rule", "исключено правилом"),
            Some(CallVerdict::NotAnswered) => self.of_two("not answered", "без ответа"),
            Some(CallVerdict::Encrypted) => self.of_two("encrypted", "зашифровано"),
            Some(CallVerdict::UnknownCodec) => self.of_two("unknown codec", "неизвестный кодек"),
            Some(CallVerdict::NoMedia) => self.of_two("no sound seen", "звука не было"),
            Some(CallVerdict::Failed) => self.of_two("lost by us", "потеряно нами"),
        }
    }

    /// Returns a sentence for the verdict of a call, i.e. whether the call can be heard.
    pub(super) const fn verdict_sentence(self, verdict: Option<CallVerdict>) -> &'static str {
        match verdict {
            None => self.of_two("The call is not ready yet.", "Звонок ещё не обработан."),
            Some(CallVerdict::BothSides) => self.of_two("Both sides are heard.", "Слышны обе стороны."),
            Some(CallVerdict::CallerOnly) => self.of_two("Only the caller is heard.", "Слышен только звонивший."),
            Some(CallVerdict::CalleeOnly) => self.of_two("Only the callee is heard.", "Слышен только ответивший."),
            Some(CallVerdict::Excluded) => self.of_two(
                "A rule excludes this call: nothing was kept.",
                "Правило исключает этот звонок: запись не ведётся.",
            ),
            Some(CallVerdict::NotAnswered) => self.of_two("The call was not answered.", "На звонок не ответили."),
            Some(CallVerdict::Encrypted) => {
                self.of_two("The sound was sent encrypted.", "Звук передавался зашифрованным.")
            }
            Some(CallVerdict::UnknownCodec) => {
                self.of_two("There is no decoder for the sound.", "Для этого звука нет декодера.")
            }
            Some(CallVerdict::NoMedia) => {
                self.of_two("The mirror showed no sound of this call.", "Зеркало не показало звука этого звонка.")
            }
            Some(CallVerdict::Failed) => {
                self.of_two("This recorder lost the call.", "Этот регистратор потерял звонок.")
            }
        }
    }

    /// Returns the text for the reason of a call's verdict, and the language code of this text. A reason without a
    /// translation stays English.
    pub(super) fn reason(self, reason: &str) -> (String, &'static str) {
        match self {
            Self::Ru => russian_reason(reason).map_or_else(|| (reason.to_owned(), "en"), |russian| (russian, "ru")),
            Self::En => (reason.to_owned(), "en"),
        }
    }

    /// Returns the translation of an English text. A text without a translation, e.g. of another version, stays
    /// English, and the HTML marks its language.
    pub(super) fn translated(self, book: &Phrasebook, english: &str) -> Markup {
        let russian = if self == Self::Ru { book.text_and_commands(english) } else { None };
        match russian {
            Some((russian, "")) => html! { span lang="ru" { (russian) } },
            Some((russian, commands)) => html! { span lang="ru" { (russian) } " " code { (commands) } },
            None => html! { span lang="en" { (english) } },
        }
    }

    /// Returns the text for the direction of a call.
    pub(super) const fn direction(self, direction: CallDirection) -> &'static str {
        match direction {
            CallDirection::Inbound => self.of_two("Incoming", "Входящий"),
            CallDirection::Outbound => self.of_two("Outgoing", "Исходящий"),
            CallDirection::Internal => self.of_two("Internal", "Внутренний"),
            CallDirection::Unknown => self.of_two("Direction unknown", "Направление неизвестно"),
        }
    }

    /// Returns the text for the outcome of a call.
    pub(super) const fn outcome(self, outcome: CallOutcome) -> &'static str {
        match outcome {
            CallOutcome::Answered => self.of_two("answered", "отвечен"),
            CallOutcome::Abandoned => self.of_two("hung up in the queue", "не дождался в очереди"),
            CallOutcome::Cancelled => self.of_two("cancelled by the caller", "отменён звонившим"),
            CallOutcome::Busy => self.of_two("busy", "занято"),
            CallOutcome::Declined => self.of_two("declined", "отклонён"),
            CallOutcome::NoAnswer => self.of_two("nobody answered", "никто не ответил"),
            CallOutcome::Redirected => self.of_two("redirected", "перенаправлен"),
            CallOutcome::Failed => self.of_two("failed", "не состоялся"),
            CallOutcome::Unknown => self.of_two("outcome unknown", "исход неизвестен"),
        }
    }

    /// Returns the text for the cause of a call's end.
    pub(super) const fn ended_by(self, ended: EndedBy) -> &'static str {
        match ended {
            EndedBy::Caller => self.of_two("ended by the caller", "завершил звонивший"),
            EndedBy::Callee => self.of_two("ended by the callee", "завершил ответивший"),
            EndedBy::Silence => self.of_two("ended after silence", "завершён по тишине"),
            EndedBy::Replaced => self.of_two("replaced by another call", "заменён другим звонком"),
            EndedBy::SessionExpired => self.of_two("session timer expired", "истёк таймер сессии"),
            EndedBy::CaptureEnd => self.of_two("capture ended", "конец захвата"),
            EndedBy::Limit => self.of_two("ended at a limit", "завершён по пределу"),
            EndedBy::Signalling => self.of_two("refused or cancelled", "отклонён или отменён"),
        }
    }

    /// Returns the text for a state of the delivery to Pyrus.
    pub(super) const fn delivery(self, state: DeliveryState) -> &'static str {
        match state {
            DeliveryState::None => self.of_two("not for Pyrus", "не для Pyrus"),
            DeliveryState::Owed => self.of_two("owed", "в очереди"),
            DeliveryState::Done => self.of_two("delivered", "передан"),
            DeliveryState::Parked => self.of_two("parked", "отложен"),
            DeliveryState::Dead => self.of_two("failed for good", "не передан"),
        }
    }

    /// Returns the text for a right of an account.
    pub(super) const fn right(self, right: AccountRight) -> &'static str {
        match right {
            AccountRight::List => self.of_two("list", "список"),
            AccountRight::Play => self.of_two("play", "слушать"),
            AccountRight::Download => self.of_two("download", "скачивать"),
            AccountRight::Live => self.of_two("live", "сейчас"),
            AccountRight::Notes => self.of_two("notes", "заметки"),
        }
    }

    /// Returns the text for a side of a call: caller or callee.
    pub(super) const fn side(self, side: Side) -> &'static str {
        match side {
            Side::Caller => self.of_two("caller", "звонивший"),
            Side::Callee => self.of_two("callee", "ответивший"),
        }
    }

    /// Returns the text for an event during a call.
    pub(super) const fn event(self, kind: EventKind) -> &'static str {
        match kind {
            EventKind::Hold => self.of_two("hold", "ожидание"),
            EventKind::Resume => self.of_two("end of hold", "конец ожидания"),
            EventKind::Transfer => self.of_two("transfer", "перевод"),
            EventKind::CodecChange => self.of_two("another codec", "другой кодек"),
            EventKind::MediaMove => self.of_two("sound from another address", "звук с другого адреса"),
            EventKind::Dtmf => self.of_two("keys (digits are never kept)", "клавиши (цифры не хранятся)"),
            EventKind::Pause => self.of_two("recording paused", "запись приостановлена"),
            EventKind::Unpause => self.of_two("recording resumed", "запись продолжена"),
            EventKind::Fax => self.of_two("fax", "факс"),
            EventKind::ToneLeftOut => {
                self.of_two("busy tone after the call, not recorded", "сигнал «занято» после звонка, не записан")
            }
            EventKind::Unknown => self.of_two("event", "событие"),
        }
    }

    /// Returns the text for the detail of an event, e.g. `4.2 s` or `PCMU to G722`.
    pub(super) fn event_detail(self, detail: &str) -> String {
        let seconds = detail.strip_suffix(" s").and_then(|seconds| seconds.parse().ok());
        match (self, seconds, detail.split_once(" to ")) {
            (Self::Ru, Some(seconds), _) => format!("{} с", self.decimal(seconds, 1)),
            (Self::Ru, None, _) if detail == T38_REFUSED => String::from("отказ от T.38"),
            (Self::Ru, None, Some((from, to))) => format!("{from} → {to}"),
            _ => detail.to_owned(),
        }
    }

    /// Returns the text for a problem of a recording.
    pub(super) const fn problem(self, kind: ProblemKind) -> &'static str {
        match kind {
            ProblemKind::LostByUs => self.of_two("packets lost by this recorder", "пакеты потеряны регистратором"),
            ProblemKind::LostBeforeUs => self.of_two("packets lost before us", "пакеты потеряны до нас"),
            ProblemKind::RestartGap => {
                self.of_two("missing while the recorder restarted", "пропуск на время перезапуска")
            }
            ProblemKind::TornTail => self.of_two("the end is torn off", "конец оборван"),
            ProblemKind::ClockStep => {
                self.of_two("the clock was set during the call", "часы переводились во время звонка")
            }
            ProblemKind::CutBySnaplen => self.of_two("frames were captured cut", "кадры захвачены обрезанными"),
            ProblemKind::DiskFull => self.of_two("the disk was full", "диск был полон"),
            ProblemKind::SpoolError => self.of_two("the spool could not be written", "буфер не записался"),
            ProblemKind::RenderError => self.of_two("the sound could not be rendered", "звук не удалось собрать"),
            ProblemKind::Undecodable => self.of_two("packets could not be decoded", "пакеты не декодируются"),
            ProblemKind::Late => self.of_two("packets came too late", "пакеты пришли слишком поздно"),
            ProblemKind::BrokenStamps => self.of_two("timestamps contradict", "метки времени противоречивы"),
            ProblemKind::OneWayAudio => {
                self.of_two("one side sent silence only", "одна сторона передавала только тишину")
            }
            ProblemKind::AnswerNotSeen => self.of_two("the answer itself was not seen", "сам ответ не был виден"),
            ProblemKind::ContinuesAfterSilence => self.of_two("continues after silence", "продолжение после тишины"),
            ProblemKind::BeganBeforeCapture => self.of_two("began before the capture", "начался до захвата"),
            ProblemKind::ScatteredStamps => self.of_two("timestamps leap", "метки времени скачут"),
            ProblemKind::AmrAlignment => {
                self.of_two("AMR came in the other alignment", "AMR пришёл с другим выравниванием")
            }
            ProblemKind::G726Packing => self.of_two("G.726 came in the other order", "G.726 пришёл в другом порядке"),
            ProblemKind::TrailingBytes => self.of_two("packets had bytes left over", "в пакетах были лишние байты"),
            ProblemKind::OppositePhases => self.of_two("stereo channels were opposite", "каналы стерео в противофазе"),
            ProblemKind::ByteOrder => {
                self.of_two("L16 came in the other byte order", "L16 пришёл с обратным порядком байтов")
            }
            ProblemKind::CompandingLaw => {
                self.of_two("G.711 came in the other law", "G.711 пришёл по другому закону (A/μ)")
            }
            ProblemKind::SentUnencrypted => {
                self.of_two("SRTP was agreed, but not used", "SRTP согласован, но не использован")
            }
            ProblemKind::PayloadTypeMismatch => {
                self.of_two("another payload type than announced", "тип нагрузки не тот, что объявлен")
            }
            ProblemKind::EncryptedPart => self.of_two("a part is encrypted", "часть зашифрована"),
            ProblemKind::UnknownCodecPart => {
                self.of_two("a part has a codec without a decoder", "у части кодек, для которого нет декодера")
            }
            ProblemKind::StreamsRefused => self.of_two("more streams than are kept", "потоков больше, чем хранится"),
            ProblemKind::Scan => {
                self.of_two("a scan: many attempts of one source", "сканирование: много попыток одного источника")
            }
            ProblemKind::MediaBehindNat => self.of_two("a NAT changed the addresses", "NAT изменил адреса"),
            ProblemKind::MediaOverTcp => self.of_two("media over TCP", "звук по TCP"),
            ProblemKind::SecondAudioLine => self.of_two("several audio lines at once", "несколько аудиолиний сразу"),
            other => other.as_str(),
        }
    }

    /// Formats a day: `Friday 27 November 2026`.
    pub(super) fn day(self, at: Timestamp) -> String {
        let local = local(at);
        let weekday = local.weekday().to_monday_zero_offset() as usize;
        let (days, months) = match self {
            Self::En => (DAYS_EN, MONTHS_EN),
            Self::Ru => (DAYS_RU, MONTHS_RU),
        };
        let month = months[(local.month() - 1) as usize];
        match self {
            Self::En => format!("{} {} {month} {}", days[weekday], local.day(), local.year()),
            Self::Ru => format!("{}, {} {month} {}", days[weekday], local.day(), local.year()),
        }
    }
}

/// Converts a time to the zone of this machine.
pub(super) fn local(at: Timestamp) -> jiff::Zoned {
    let time = jiff::Timestamp::from_microsecond(at.as_micros()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.to_zoned(jiff::tz::TimeZone::system())
}

/// Formats the time of day: `17:58:03`.
pub(super) fn clock_time(at: Timestamp) -> String {
    local(at).strftime("%H:%M:%S").to_string()
}

/// Formats the time of day with milliseconds: `17:58:03.012`.
pub(super) fn clock_ms(at: Timestamp) -> String {
    local(at).strftime("%H:%M:%S.%3f").to_string()
}

/// Formats day and time: `27.11.2026 17:58:03`.
pub(super) fn date_time(at: Timestamp) -> String {
    local(at).strftime("%d.%m.%Y %H:%M:%S").to_string()
}

/// Formats the day for URLs and form fields, in ISO form: `2026-11-27`.
pub(super) fn iso_day(at: Timestamp) -> String {
    local(at).strftime("%Y-%m-%d").to_string()
}

/// Formats the time zone of this machine: its name and its offset from UTC.
pub(super) fn zone(at: Timestamp) -> String {
    local(at).strftime("%Z, UTC%:z").to_string()
}

/// Formats a duration: `3:41`, or `10:46:40` from one hour on.
pub(super) fn length(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    let (h, m, s) = (s / 3_600, s / 60 % 60, s % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") }
}

/// Formats a size in bytes with a suitable unit, e.g. MB.
pub(super) fn size(lang: Lang, bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    let (value, unit) = if mib >= 1_024.0 {
        (mib / 1_024.0, lang.of_two("GiB", "ГиБ"))
    } else if mib >= 0.1 {
        (mib, lang.of_two("MiB", "МиБ"))
    } else {
        (bytes as f64 / 1_024.0, lang.of_two("KiB", "КиБ"))
    };
    format!("{} {unit}", lang.decimal(value, 1))
}

/// Name of the cookie that stores the language.
pub(super) const COOKIE: &str = "lang";

const DAYS_EN: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const DAYS_RU: [&str; 7] = ["понедельник", "вторник", "среда", "четверг", "пятница", "суббота", "воскресенье"];
const MONTHS_EN: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const MONTHS_RU: [&str; 12] = [
    "января",
    "февраля",
    "марта",
    "апреля",
    "мая",
    "июня",
    "июля",
    "августа",
    "сентября",
    "октября",
    "ноября",
    "декабря",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn russian_nouns_follow_their_numbers() {
        let calls = |n| Lang::Ru.count(n, ["call", "calls"], ["звонок", "звонка", "звонков"]);
        assert_eq!(
            [1, 2, 5, 11, 21, 112].map(calls),
            ["1 звонок", "2 звонка", "5 звонков", "11 звонков", "21 звонок", "112 звонков"]
        );
        assert_eq!(Lang::En.count(1_318, ["call", "calls"], ["", "", ""]), "1,318 calls");
    }

    #[test]
    fn lengths_are_not_cut_at_a_day() {
        assert_eq!([0.4, 221.0, 100_000.0].map(length), ["0:00", "3:41", "27:46:40"]);
    }
}
