//! Reasons and advice about deliveries in Russian.
//!
//! # Invariant
//! Every sentence that delivery writes as a reason has a translation. A test compares the table with the sources.

use crate::call::phrasebook::Phrasebook;

/// Translations of the reasons why calls are parked (wait for a person) or dead (were given up), of notes, and of
/// alarms. Texts that Pyrus itself sends are not translated.
pub(crate) const DELIVERY_REASONS: Phrasebook =
    Phrasebook { sentences: &[DELIVERY_SENTENCES, EARLIER_SENTENCES], phrases: &[DELIVERY_PHRASES], nouns: &[] };

/// Sentences about deliveries, in English and Russian.
pub(crate) const DELIVERY_SENTENCES: &[(&str, &str)] = &[
    ("(Pyrus: {}", "(Pyrus: {}"),
    ("no connection ({}); the request is repeated automatically", "нет соединения ({}); запрос повторяется сам"),
    ("no response ({}); the request is repeated automatically", "нет ответа ({}); запрос повторяется сам"),
    (
        "Pyrus refuses the login: check login and security_key in [pyrus] (the bot's profile in Pyrus shows the key). If the login has several accounts, set person_id. After the change, run systemctl reload callspan",
        "Pyrus не принимает вход: проверьте login и security_key в [pyrus] (ключ показан в профиле бота в Pyrus). Если у логина несколько учётных записей, задайте person_id. После изменения выполните systemctl reload callspan",
    ),
    (
        "the Pyrus account of the bot is blocked: ask the Pyrus administrator to unblock it",
        "учётная запись бота в Pyrus заблокирована: попросите администратора Pyrus её разблокировать",
    ),
    (
        "Pyrus does not know the account_id in [pyrus]: copy it from the telephony extension that is connected to the form",
        "Pyrus не знает account_id из [pyrus]: скопируйте его из расширения телефонии, подключённого к форме",
    ),
    (
        "calls are switched off in Pyrus: enable the telephony extension in the settings of its form",
        "звонки в Pyrus выключены: включите расширение телефонии в настройках его формы",
    ),
    (
        "the form in Pyrus is deleted: connect the telephony extension to another form",
        "форма в Pyrus удалена: подключите расширение телефонии к другой форме",
    ),
    (
        "the task in Pyrus is full: close the task, so that the next call gets a new one",
        "задача в Pyrus переполнена: закройте её, чтобы следующий звонок получил новую",
    ),
    (
        "a limit of the Pyrus licence is reached: free space in Pyrus or extend the licence",
        "достигнут предел лицензии Pyrus: освободите место в Pyrus или расширьте лицензию",
    ),
    (
        "the recording is larger than Pyrus accepts: lower max_upload_mib in [pyrus] or part_hours in [recording]",
        "запись больше, чем принимает Pyrus: уменьшите max_upload_mib в [pyrus] или part_hours в [recording]",
    ),
    (
        "the form in Pyrus lacks some of the fields: add them to the form, or remove their codes from send_mappings and mappings in [pyrus]",
        "в форме Pyrus нет некоторых полей: добавьте их в форму или уберите их коды из send_mappings и mappings в [pyrus]",
    ),
    (
        "Pyrus does not accept the token for calls: check that login and auth_url in [pyrus] belong to the same Pyrus. Give the bot access to the form",
        "Pyrus не принимает токен для звонков: проверьте, что login и auth_url в [pyrus] относятся к одному Pyrus. Дайте боту доступ к форме",
    ),
    (
        "the session of the bot ended: callspan logs in again by itself. If this comes often, another program uses the same login: give each program its own bot",
        "сеанс бота закончился: callspan входит снова сам. Если это часто, тем же логином пользуется другая программа: дайте каждой программе своего бота",
    ),
    (
        "Pyrus does not know the call: callspan registers the call again by itself. If that fails, check account_id in [pyrus] and whether somebody deleted the task",
        "Pyrus не знает этот звонок: callspan регистрирует его снова сам. Если не выйдет, проверьте account_id в [pyrus] и не удалил ли кто-то задачу",
    ),
    (
        "the task of the call is gone in Pyrus: the call is registered again by itself; after that, run callspan calls retry",
        "задачи звонка в Pyrus больше нет: звонок регистрируется снова сам; после этого выполните callspan calls retry",
    ),
    (
        "the task of the call was moved to another place in Pyrus: move the task back and run callspan calls retry. Or attach the recording by hand",
        "задачу звонка в Pyrus перенесли: верните её и выполните callspan calls retry. Или приложите запись вручную",
    ),
    (
        "Pyrus no longer has the uploaded file: callspan uploads the file again by itself. Only the login that uploaded a file can attach it, so do not change login in between",
        "у Pyrus больше нет загруженного файла: callspan загружает его снова сам. Прикрепить файл может только тот логин, который его загрузил, поэтому не меняйте login в это время",
    ),
    (
        "Pyrus does not take this kind of file: set format = \"wav\" in [recording], then run callspan calls render and callspan calls retry",
        "Pyrus не принимает такой тип файла: задайте format = \"wav\" в [recording], затем выполните callspan calls render и callspan calls retry",
    ),
    (
        "somebody changed the task in Pyrus at the same moment: the request is repeated. If the fault stays, check the task for a lock or a workflow step",
        "задачу в Pyrus в тот же момент изменил кто-то другой: запрос повторяется. Если не проходит, проверьте, не заблокирована ли задача и не мешает ли этап маршрута",
    ),
    (
        "this Pyrus does not support the request: update Pyrus on your own servers, or check the settings of the telephony extension",
        "этот Pyrus не поддерживает запрос: обновите Pyrus на своих серверах или проверьте настройки расширения телефонии",
    ),
    (
        "the recording has no sound: callspan calls verify says whether the file is whole; callspan calls render makes it again from kept packets",
        "в записи нет звука: callspan calls verify покажет, цел ли файл; callspan calls render соберёт его снова из сохранённых пакетов",
    ),
    (
        "the upload arrived damaged: look for a proxy or firewall between here and Pyrus that changes requests, then run callspan calls retry",
        "загрузка дошла повреждённой: найдите прокси или межсетевой экран между этой машиной и Pyrus, который меняет запросы, затем выполните callspan calls retry",
    ),
    (
        "a form field does not take its value: compare send_mappings, mappings, rating_type and call_duration_unit in [pyrus] with the types of the form's fields",
        "поле формы не принимает значение: сравните send_mappings, mappings, rating_type и call_duration_unit в [pyrus] с типами полей формы",
    ),
    (
        "Pyrus misses a parameter: check account_id in [pyrus]; if it is right, this is a mistake of callspan, so keep the log",
        "Pyrus не хватает параметра: проверьте account_id в [pyrus]; если он верен, это ошибка callspan — сохраните журнал",
    ),
    (
        "Pyrus cannot read the request: look for a proxy that changes requests; else this is a mistake of callspan, so keep the log",
        "Pyrus не может прочитать запрос: найдите прокси, который меняет запросы; иначе это ошибка callspan — сохраните журнал",
    ),
    (
        "the rate limit of the bot is reached (5,000 requests in 10 minutes): the request is repeated by itself. Give other programs a bot of their own",
        "достигнут предел запросов бота (5000 за 10 минут): запрос повторяется сам. Дайте другим программам отдельного бота",
    ),
    (
        "Pyrus has a fault: the request is repeated by itself; if it lasts longer than 10 minutes, ask the support of Pyrus",
        "сбой в Pyrus: запрос повторяется сам; если это дольше 10 минут, обратитесь в поддержку Pyrus",
    ),
    (
        "Pyrus denies the bot access: give the bot access to the form",
        "Pyrus отказывает боту в доступе: дайте боту доступ к форме",
    ),
    (
        "the recording is larger than the server accepts: lower max_upload_mib in [pyrus] or part_hours in [recording]",
        "запись больше, чем принимает сервер: уменьшите max_upload_mib в [pyrus] или part_hours в [recording]",
    ),
    (
        "the server is not the Pyrus API, or too old for calls: check auth_url in [pyrus]",
        "сервер не похож на API Pyrus или слишком стар для звонков: проверьте auth_url в [pyrus]",
    ),
    (
        "a firewall or proxy in front of Pyrus refuses the request: allow this machine to reach Pyrus",
        "межсетевой экран или прокси перед Pyrus отклоняет запрос: разрешите этой машине доступ к Pyrus",
    ),
    ("the request succeeded with a warning", "запрос выполнен с предупреждением"),
    (
        "the rate limit of Pyrus is reached: the request is repeated automatically",
        "достигнут предел запросов Pyrus: запрос повторяется сам",
    ),
    (
        "Pyrus refuses the request: fix the cause in Pyrus or in [pyrus]; the request is then repeated automatically",
        "Pyrus отклоняет запрос: устраните причину в Pyrus или в [pyrus]; после этого запрос повторится сам",
    ),
    (
        "Pyrus rejects the request and it is not repeated: after fixing the cause, use `callspan calls retry`",
        "Pyrus отвергает запрос, и он не повторяется: устраните причину и выполните `callspan calls retry`",
    ),
    ("the request failed and is repeated automatically", "запрос не удался и повторяется сам"),
    (
        "a no_register rule in the configuration excludes this call from Pyrus; nothing was sent",
        "правило no_register в конфигурации не пускает этот звонок в Pyrus; ничего не отправлено",
    ),
    (
        "a no_register rule in the configuration excludes this call from Pyrus. But an earlier registration may have succeeded: check in the form whether the call is there",
        "правило no_register в конфигурации не пускает этот звонок в Pyrus. Но прежняя регистрация могла пройти: проверьте, нет ли звонка в форме",
    ),
    (
        "the recording is encrypted and cannot be sent: decrypt it with the secret key (age -d -i KEYFILE), and attach it to the task",
        "запись зашифрована и не может быть отправлена: расшифруйте её секретным ключом (age -d -i KEYFILE) и прикрепите к задаче",
    ),
    (
        "the recording has {} bytes, which is more than max_upload_mib in [pyrus] allows: it stays on this machine and is not sent. If Pyrus accepts larger files, raise max_upload_mib; otherwise lower part_hours in [recording]",
        "размер записи, байт: {}, это больше max_upload_mib в [pyrus]: она остаётся на этой машине и не отправляется. Если Pyrus принимает большие файлы, увеличьте max_upload_mib; иначе уменьшите part_hours в [recording]",
    ),
    (
        "Pyrus did not confirm the registration of this call, and a repeat was not confirmed either: check in the form whether the call is there",
        "Pyrus не подтвердил регистрацию этого звонка, и повторную тоже: проверьте, нет ли звонка в форме",
    ),
    (
        "Pyrus cannot be reached: check auth_url in [pyrus] and the network; calls are kept and sent as soon as Pyrus answers. The failure: {}",
        "Pyrus недоступен: проверьте auth_url в [pyrus] и сеть; звонки хранятся и будут отправлены, как только Pyrus ответит. Причина: {}",
    ),
    (
        "Pyrus did not take the end of this call, which has no recording: {}",
        "Pyrus не принял конец этого звонка, записи у него нет: {}",
    ),
    (
        "the recording {} cannot be read ({}): make the file readable, or restore it",
        "запись {} не читается ({}): сделайте файл доступным для чтения или восстановите его",
    ),
    (
        "security_key is missing: set security_key_file, or the environment variable CALLSPAN_PYRUS_SECURITY_KEY",
        "не задан security_key: задайте security_key_file или переменную окружения CALLSPAN_PYRUS_SECURITY_KEY",
    ),
    (
        "the token from Pyrus contains characters that HTTP forbids: check auth_url in [pyrus]",
        "в токене от Pyrus есть символы, запрещённые в HTTP: проверьте auth_url в [pyrus]",
    ),
    ("auth_url is not a valid URL: {}", "auth_url — не URL: {}"),
    (
        "auth_url must begin with https:// (http:// is allowed only for this machine)",
        "auth_url должен начинаться с https:// (http:// — только для этой же машины)",
    ),
    ("auth_url must have no user, password or query", "в auth_url не должно быть пользователя, пароля и параметров"),
    ("auth_url must end in /auth", "auth_url должен оканчиваться на /auth"),
    (
        "Pyrus returned an invalid base URL ({}): check auth_url",
        "Pyrus вернул неверный базовый URL ({}): проверьте auth_url",
    ),
    ("the {} from Pyrus is not a valid URL ({}): check auth_url", "{} от Pyrus — не URL ({}): проверьте auth_url"),
    (
        "the {} from Pyrus has a user, query or fragment: the token is not sent there; check auth_url",
        "в {} от Pyrus есть пользователь, параметры или фрагмент: токен туда не отправляется; проверьте auth_url",
    ),
    (
        "the {} from Pyrus does not use https: the token is not sent there; check auth_url",
        "{} от Pyrus без https: токен туда не отправляется; проверьте auth_url",
    ),
    (
        "the {} from Pyrus is on the foreign host {}: the token is not sent there; check auth_url",
        "{} от Pyrus ведёт на чужой сервер {}: токен туда не отправляется; проверьте auth_url",
    ),
];

/// Phrases that are inserted into other sentences of delivery at `{}`, in English and Russian.
pub(crate) const DELIVERY_PHRASES: &[(&str, &str)] = &[
    ("no response within {}", "нет ответа за {}"),
    ("the upload stalled for {}", "загрузка остановилась на {}"),
    ("the upload took longer than {}", "загрузка длилась дольше {}"),
    ("{} refuses the connection", "{} отклоняет соединение"),
    ("it is empty or no regular file", "он пуст или это не обычный файл"),
    ("it is not a WAV file that can be sliced", "это не WAV, который можно разделить"),
    ("the token was replaced before the request was sent", "токен заменён до отправки запроса"),
    ("HTTP {}", "HTTP {}"),
];

/// Reasons that earlier versions wrote, in English and Russian. The journal keeps such reasons.
pub(crate) const EARLIER_SENTENCES: &[(&str, &str)] = &[
    (
        "Pyrus refuses the login: check login and security_key in [pyrus] (the bot's profile in Pyrus shows the key), and set person_id if the login has several accounts; a new key in security_key_file takes effect at once, other changes after a restart",
        "Pyrus не принимает вход: проверьте login и security_key в [pyrus] (ключ показан в профиле бота в Pyrus) и задайте person_id, если у логина несколько учётных записей; новый ключ в security_key_file действует сразу, остальное — после перезапуска",
    ),
    (
        "the task of the call is gone or was moved in Pyrus: the call is registered again by itself; after that, run callspan calls retry",
        "задачи звонка в Pyrus больше нет или она перенесена: звонок регистрируется снова сам; после этого выполните callspan calls retry",
    ),
    (
        "Pyrus refuses the login: check login and security_key in [pyrus] (the bot's profile in Pyrus shows the key), and set person_id if the login has several accounts; after the change, run systemctl reload callspan",
        "Pyrus не принимает вход: проверьте login и security_key в [pyrus] (ключ показан в профиле бота в Pyrus) и задайте person_id, если у логина несколько учётных записей; после изменения выполните systemctl reload callspan",
    ),
    (
        "Pyrus does not accept the token for calls: check that login and auth_url in [pyrus] belong to the same Pyrus, and give the bot access to the form",
        "Pyrus не принимает токен для звонков: проверьте, что login и auth_url в [pyrus] относятся к одному Pyrus, и дайте боту доступ к форме",
    ),
    (
        "the session of the bot ended: callspan logs in again by itself; if this comes often, another program uses the same login, so give each its own bot",
        "сеанс бота закончился: callspan входит снова сам; если это часто, тем же логином пользуется другая программа — дайте каждой своего бота",
    ),
    (
        "Pyrus does not know the call: it is registered again by itself; if that fails, check account_id in [pyrus] and whether somebody deleted the task",
        "Pyrus не знает этот звонок: он регистрируется снова сам; если не выйдет, проверьте account_id в [pyrus] и не удалил ли кто-то задачу",
    ),
    (
        "the task of the call was moved to another place in Pyrus: move it back and run callspan calls retry, or attach the recording by hand",
        "задачу звонка в Pyrus перенесли: верните её и выполните callspan calls retry или приложите запись вручную",
    ),
    (
        "Pyrus no longer has the uploaded file: it is uploaded again by itself; only the login that uploaded a file can attach it, so do not change login in between",
        "у Pyrus больше нет загруженного файла: он загружается снова сам; прикрепить файл может только тот логин, который его загрузил, поэтому не меняйте login в это время",
    ),
    (
        "somebody changed the task in Pyrus at the same moment: the request is repeated; if it stays, check the task for a lock or a workflow step",
        "задачу в Pyrus в тот же момент изменил кто-то другой: запрос повторяется; если не проходит, проверьте, не заблокирована ли задача и не мешает ли этап маршрута",
    ),
    (
        "the rate limit of the bot is reached (5,000 requests in 10 minutes): the request is repeated by itself; give other programs a bot of their own",
        "достигнут предел запросов бота (5000 за 10 минут): запрос повторяется сам; дайте другим программам отдельного бота",
    ),
    (
        "a no_register rule in the configuration excludes this call from Pyrus, but an earlier registration may have succeeded: check in the form whether the call is there",
        "правило no_register в конфигурации не пускает этот звонок в Pyrus, но прежняя регистрация могла пройти: проверьте, нет ли звонка в форме",
    ),
    (
        "the recording is encrypted and cannot be sent: decrypt it with the secret key (age -d -i KEYFILE) and attach it to the task by hand",
        "запись зашифрована и не может быть отправлена: расшифруйте её секретным ключом (age -d -i KEYFILE) и прикрепите к задаче вручную",
    ),
    (
        "the recording has {} bytes, which is more than max_upload_mib in [pyrus] allows: it stays on this machine and is not sent; raise max_upload_mib if Pyrus accepts larger files, or lower part_hours in [recording]",
        "размер записи, байт: {}, это больше max_upload_mib в [pyrus]: она остаётся на этой машине и не отправляется; увеличьте max_upload_mib, если Pyrus принимает большие файлы, или уменьшите part_hours в [recording]",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::phrasebook::sources::assert_translated;

    #[test]
    fn reason_with_the_answer_of_pyrus_is_translated_and_the_answer_kept() {
        let english =
            "Pyrus denies the bot access: give the bot access to the form (Pyrus: HTTP 403 access_denied: Нет доступа)";
        let russian =
            "Pyrus отказывает боту в доступе: дайте боту доступ к форме (Pyrus: HTTP 403 access_denied: Нет доступа)";
        assert_eq!(DELIVERY_REASONS.text(english).as_deref(), Some(russian));
        let away = "Pyrus cannot be reached: check auth_url in [pyrus] and the network; calls are kept and sent as soon as Pyrus answers. The failure: no connection (pyrus.example refuses the connection); the request is repeated automatically";
        let russian = DELIVERY_REASONS.text(away).unwrap();
        assert!(
            russian.ends_with("Причина: нет соединения (pyrus.example отклоняет соединение); запрос повторяется сам"),
            "{russian}"
        );
    }

    /// Searches the sources of delivery for string literals of four words or more. Each literal is a sentence for
    /// people, so it must have a translation.
    #[test]
    fn every_reason_of_delivery_has_a_translation() {
        let sources = [
            include_str!("verdict/mod.rs"),
            include_str!("job.rs"),
            include_str!("machine/mod.rs"),
            include_str!("machine/outcomes.rs"),
            include_str!("../pyrus/client.rs"),
            include_str!("../pyrus/upload.rs"),
            include_str!("../pyrus/urls.rs"),
        ];
        assert_translated(&DELIVERY_REASONS, (&sources, 50), 4, is_other);
    }

    /// Returns whether a string literal needs no translation, because it is for developers or only a part of a
    /// sentence.
    fn is_other(literal: &str) -> bool {
        let parts = [
            "I/O module",
            "string keys",
            "is in memory",
            "that is there",
            "ready is a job",
            "an upload is attached",
            "not sent for security",
        ];
        let is_part = ["no connection ({text}", "no response ({text}", "the request is repeated automatically"];
        parts.iter().any(|part| literal.contains(part))
            || is_part.iter().any(|part| literal.starts_with(part))
            || ["Pyrus did not take the end of this call, which has no recording", "it contains no certificate"]
                .contains(&literal)
            || literal == "{remedy} (Pyrus: {code}{text})"
    }
}
