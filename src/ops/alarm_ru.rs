//! Alarms in Russian: the title of each kind, and the descriptions of the causes.
//!
//! # Invariant
//! Every description that the service words itself has a translation. A test compares the table with the sources. The
//! texts of errors that a description quotes stay English, e.g. those of the operating system or of a failed start.
//! Alarms are stored with their sentence, so a sentence of an earlier version keeps its translation
//! ([`super::earlier_ru`]).

use super::alerts::AlarmKind;
use super::doctor::russian::{FINDING_NOUNS, FINDING_PHRASES, FINDING_SENTENCES};
use super::earlier_ru::{EARLIER_ALARM_PHRASES, EARLIER_ALARMS};
use crate::call::phrasebook::Phrasebook;
use crate::call::reason_ru::{EARLIER_PHRASES, EARLIER_REASONS, REASON_PHRASES, REASON_SENTENCES};
use crate::delivery::reason_ru::{DELIVERY_PHRASES, DELIVERY_SENTENCES, EARLIER_SENTENCES};

/// Translations of the descriptions of alarms and of the steps of a test call. Some alarms quote other texts: a finding
/// of the doctor, or the reason why a delivery waits. So the translations of these texts are included.
pub(crate) const ALARMS: Phrasebook = Phrasebook {
    sentences: &[
        ALARM_SENTENCES,
        TEST_CALL_SENTENCES,
        DELIVERY_SENTENCES,
        REASON_SENTENCES,
        FINDING_SENTENCES,
        EARLIER_ALARMS,
        EARLIER_SENTENCES,
        EARLIER_REASONS,
        ARCHIVE_SENTENCES,
    ],
    phrases: &[
        ALARM_PHRASES,
        REASON_PHRASES,
        FINDING_PHRASES,
        DELIVERY_PHRASES,
        EARLIER_ALARM_PHRASES,
        EARLIER_PHRASES,
    ],
    nouns: FINDING_NOUNS,
};

/// Returns the Russian title of a kind of alarm: a few words for a subject line.
pub(crate) const fn title(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::DiskLow => "на диске мало места",
        AlarmKind::DiskFull => "диск заполнен",
        AlarmKind::DiskReadOnly => "на диск нельзя писать",
        AlarmKind::StorageMissing => "диска нет на месте",
        AlarmKind::DiskRecovered => "на диске снова есть место",
        AlarmKind::RecordingFailed => "запись не удаётся сохранить",
        AlarmKind::RenderFailed => "звонок не удалось собрать",
        AlarmKind::EncryptionFailed => "запись не удалось зашифровать",
        AlarmKind::DeliveryParked => "звонок ждёт человека, прежде чем попасть в Pyrus",
        AlarmKind::DeliveryDead => "звонок нельзя завершить в Pyrus",
        AlarmKind::LoginRefused => "Pyrus не принимает вход",
        AlarmKind::PyrusAway => "Pyrus недоступен",
        AlarmKind::PyrusRecovered => "Pyrus снова принимает звонки",
        AlarmKind::ArchiveFailing => "звонки не доходят до архива",
        AlarmKind::ArchiveRecovered => "архив снова принимает звонки",
        AlarmKind::CaptureDrops => "на регистраторе потеряны пакеты",
        AlarmKind::TablesFull => "звонки или пакеты отброшены: таблица полна",
        AlarmKind::InterfaceDown => "интерфейс зеркала не работает",
        AlarmKind::InterfaceUp => "интерфейс зеркала снова работает",
        AlarmKind::JournalDamaged => "журнал не записывается или повреждён",
        AlarmKind::ServiceFailed => "регистратор не запускается или завершился",
        AlarmKind::ConsoleFailed => "регистратор работает без консоли",
        AlarmKind::MirrorSilent => "зеркало не показывает SIP",
        AlarmKind::MirrorSilentOver => "зеркало снова показывает SIP",
        AlarmKind::MirrorOneSided => "зеркало показывает только одно направление",
        AlarmKind::MirrorOneSidedOver => "зеркало снова показывает оба направления",
        AlarmKind::MediaUnheard => "у звонков нет RTP в зеркале",
        AlarmKind::MediaUnheardOver => "у звонков снова есть RTP",
        AlarmKind::TestCallFailed => "проверочный звонок потерян",
        AlarmKind::TestCallPassed => "проверочный звонок снова записан",
        AlarmKind::TestAlarm => "проверка тревог",
        AlarmKind::SiteSilent => "площадка молчит",
        AlarmKind::SiteSilentOver => "все площадки снова на связи",
        AlarmKind::ThreadFailed => "ошибка в callspan прервала часть работы",
        AlarmKind::ThreadStalled => "часть регистратора не продвигается",
    }
}

const ALARM_SENTENCES: &[(&str, &str)] = &[
    ("this is a test of the alarms: nothing is wrong", "это проверка тревог: всё в порядке"),
    // Descriptions from the modules `ops::disk` and `spool::storage`.
    ("the {} folder {} cannot be read: {}", "папка {} ({}) не читается: {}"),
    (
        "the {} folder {} has enough free space again: {} MiB ({} %)",
        "в папке {} ({}) снова достаточно места: {} МиБ ({} %)",
    ),
    (
        "the {} folder {} has {} MiB ({} %) left: free some space, or set [recording] keep_days or max_disk_gib",
        "в папке {} ({}) осталось {} МиБ ({} %): освободите место или задайте keep_days или max_disk_gib в [recording]",
    ),
    (
        "the {} folder {} is full ({} MiB left): free some space now; calls are lost once the memory is full too",
        "папка {} ({}) заполнена (осталось {} МиБ): освободите место сейчас; когда заполнится и память, звонки будут теряться",
    ),
    (
        "the {} folder {} is read-only. If its disk is mounted read-only, look at `dmesg`, repair the disk and mount it again. If the folder was chosen newly, allow it to the service: systemctl edit callspan, [Service] ReadWritePaths=FOLDER",
        "папка {} ({}) доступна только для чтения. Если её диск подключён только для чтения, посмотрите `dmesg`, исправьте диск и подключите его снова. Если папка выбрана недавно, разрешите её службе: systemctl edit callspan, [Service] ReadWritePaths=ПАПКА",
    ),
    (
        "the {} folder {} is not on its disk: {}. Nothing is written there. If this disk is to be used from now on, run as root: truncate -s 0 {}",
        "папка {} ({}) не на своём диске: {}. Туда ничего не пишется. Если теперь нужен этот диск, выполните от root: truncate -s 0 {}",
    ),
    // Descriptions from the module `service`.
    (
        "no SIP for {} minutes at an hour with SIP on earlier days: check the mirror session of the switch, the cable and the PBX. The source of the session must be the port of the PBX, in both directions. The command `callspan doctor` checks the port",
        "нет SIP уже {} мин в час, когда в прежние дни он был: проверьте сессию зеркала на коммутаторе, кабель и АТС. Источник сессии — порт АТС, оба направления. Порт проверит команда `callspan doctor`",
    ),
    ("SIP arrives again", "SIP снова приходит"),
    ("the mirror shows complete calls again", "зеркало снова показывает звонки целиком"),
    ("Pyrus takes calls again", "Pyrus снова принимает звонки"),
    (
        "delivery waits, because the journal cannot be written or read: {}",
        "передача ждёт: журнал не записывается или не читается: {}",
    ),
    ("{}; it was rebuilt from the records of {} in {}", "{}; он восстановлен по записям ({}) из {}"),
    ("the journal cannot be written: {}", "журнал не записывается: {}"),
    (
        "the journal is damaged ({}): the service ends, and rebuilds the journal from the records at its next start",
        "журнал повреждён ({}): служба завершается и при следующем запуске восстановит журнал по записям",
    ),
    ("the index answers again", "индекс снова отвечает"),
    ("all sites report again", "все площадки снова на связи"),
    (
        "site {} has not reported since {}: look at its line and its recorder (callspan status there)",
        "площадка {} не на связи с {}: проверьте её канал и её регистратор (там: callspan status)",
    ),
    ("the archive takes calls again", "архив снова принимает звонки"),
    (
        "a bug in callspan stopped the thread that copies calls to the archive; callspan starts it again",
        "ошибка в callspan остановила поток, который копирует звонки в архив; callspan запустит его снова",
    ),
    ("a call cannot be archived: {}", "звонок нельзя поместить в архив: {}"),
    (
        "a recording cannot be encrypted ({}); it stays unencrypted and is tried again",
        "запись не удаётся зашифровать ({}); она остаётся незашифрованной, попытка повторится",
    ),
    (
        "{} was changed after it was written: it is not encrypted; look at it with `callspan calls verify {}`",
        "{} изменён после записи и не шифруется; проверьте его: `callspan calls verify {}`",
    ),
    (
        "the packets of a call cannot be kept ({}); the next start tries again",
        "пакеты звонка не удаётся сохранить ({}); следующий запуск попробует снова",
    ),
    (
        "{} of the call's legs could not be rendered; the packets are kept in the spool folder as .pcapng.failed",
        "плеч звонка, которые не удалось собрать: {}; пакеты оставлены в папке буфера как .pcapng.failed",
    ),
    ("the call cannot be rendered again as requested: {}", "звонок не удаётся собрать снова, как просили: {}"),
    (
        "work on the call stopped because of a bug in callspan; the next start tries again",
        "работа над звонком остановлена из-за ошибки в callspan; следующий запуск попробует снова",
    ),
    (
        "the recording cannot be written ({}); callspan tries again in {} s",
        "запись не удаётся сохранить ({}); callspan попробует снова через {} с",
    ),
    (
        "the {} thread has made no progress for {} s: a disk or a network folder does not answer. If it stays so, systemd restarts the service",
        "поток {} не продвигается уже {} с: диск или сетевая папка не отвечает. Если так останется, systemd перезапустит службу",
    ),
    (
        "the {} thread ended because of a bug in callspan: the service must restart",
        "поток {} завершился из-за ошибки в callspan: служба должна перезапуститься",
    ),
    ("a bug in callspan, in the {} thread: {}", "ошибка в callspan, в потоке {}: {}"),
    ("the capture ended unexpectedly", "захват неожиданно закончился"),
    (
        "frames were lost on this machine ({} in the kernel, {} in the interface): increase capture.buffer_mib, or give the machine more processor time",
        "на этой машине потеряны кадры (в ядре {}, в карте {}): увеличьте capture.buffer_mib или дайте машине больше процессорного времени",
    ),
    // Descriptions from the module `capture::live`.
    ("{}: the interface is up again", "{}: интерфейс снова работает"),
    ("{}: capturing again", "{}: захват снова идёт"),
    ("{}: capture stopped ({}); it is tried again each second", "{}: захват остановился ({}); попытка каждую секунду"),
    (
        "there is no interface {} ({}): name one of these, in the configuration `capture.interface`; it is tried again each second",
        "интерфейса {} нет ({}): укажите один из них в конфигурации, `capture.interface`; попытка каждую секунду",
    ),
    (
        "no privilege to capture on {}: the program needs CAP_NET_RAW (and CAP_NET_ADMIN for promiscuous mode): sudo setcap cap_net_raw,cap_net_admin=eip {}; it is tried again each second",
        "нет права захвата на {}: программе нужен CAP_NET_RAW (и CAP_NET_ADMIN для promiscuous mode): sudo setcap cap_net_raw,cap_net_admin=eip {}; попытка каждую секунду",
    ),
    ("cannot capture on {}: {}; it is tried again each second", "захват на {} невозможен: {}; попытка каждую секунду"),
    (
        "interface {} is down: sudo ip link set dev {} up; it is tried again each second",
        "интерфейс {} выключен: sudo ip link set dev {} up; попытка каждую секунду",
    ),
    ("interface {} is down: sudo ip link set dev {} up", "интерфейс {} выключен: sudo ip link set dev {} up"),
    // Descriptions from the module `ops::drops`.
    ("{} refused (the call table is full of live calls)", "{}: отказано (таблица полна идущих звонков)"),
    ("{} dropped in favour of newer INVITEs (a flood of INVITEs)", "{}: отброшено ради более новых (поток INVITE)"),
    ("{} refused (more streams than a call can have)", "{}: отказано (потоков больше, чем может быть у звонка)"),
    ("{} of no known call dropped (too many at once)", "{} неизвестных звонков: отброшено (слишком много сразу)"),
    ("{} of TCP streams dropped (too many streams at once)", "{} потоков TCP: отброшено (слишком много потоков сразу)"),
    (
        "{} in fragments dropped (too many fragments at once)",
        "{} по фрагментам: отброшено (слишком много фрагментов сразу)",
    ),
];

/// Russian texts for the failures of the central archive. They are searched last, because general patterns such as
/// `index: {}` match other sentences, too.
const ARCHIVE_SENTENCES: &[(&str, &str)] = &[
    ("object store: no answer within {} s", "хранилище объектов: нет ответа за {} с"),
    ("object store: {}", "хранилище объектов: {}"),
    ("index: {}", "индекс: {}"),
    ("archive.index is no PostgreSQL URL: {}", "archive.index — не URL PostgreSQL: {}"),
    (
        "the folder {} of archive.objects does not exist: mount its disk, or create the folder there",
        "папки {} из archive.objects нет: подключите её диск или создайте папку там",
    ),
    (
        "archive.objects = \"{}\" must begin with s3:// or file:///",
        "archive.objects = \"{}\" должно начинаться с s3:// или file:///",
    ),
    ("{} cannot be read: {}", "{} не читается: {}"),
];

/// Russian texts for the steps of a test call and its result.
const TEST_CALL_SENTENCES: &[(&str, &str)] = &[
    ("the test call was recorded correctly", "проверочный звонок записан верно"),
    ("the test call was lost at the step {}: {}", "проверочный звонок потерян на шаге {}: {}"),
    ("running, capturing on {}", "работает, захват на {}"),
    ("{} seconds from {} to {} through {}", "{} с, от {} к {} через {}"),
    ("{} cannot be read: run the command with sudo", "{} не читается: запустите команду через sudo"),
    (
        "the recorder has never run with this configuration: sudo systemctl start callspan",
        "регистратор с этой конфигурацией ещё не запускался: sudo systemctl start callspan",
    ),
    ("the recorder is stopped: sudo systemctl start callspan", "регистратор остановлен: sudo systemctl start callspan"),
    ("the recorder ended, or it cannot start: {}", "регистратор завершился или не может запуститься: {}"),
    (
        "the recorder waits for its interface {}: check the cable, `ip link`",
        "регистратор ждёт свой интерфейс {}: проверьте кабель, `ip link`",
    ),
    ("the key of the test calls cannot be read: {}", "ключ проверочных звонков не читается: {}"),
    (
        "the service has no report any more: look at `systemctl status callspan`",
        "отчёта службы больше нет: посмотрите `systemctl status callspan`",
    ),
    (
        "the service stopped during the call: look at `journalctl -u callspan`",
        "служба остановилась во время звонка: посмотрите `journalctl -u callspan`",
    ),
    ("the call is not in the journal, because of an alarm: {}", "звонка нет в журнале из-за тревоги: {}"),
    (
        "{} frames reached the recorder during the call: the mirror is silent. Check the mirror session of the switch and the cable to the recorder",
        "за время звонка до регистратора дошло кадров: {}; зеркало молчит. Проверьте сессию зеркала на коммутаторе и кабель к регистратору",
    ),
    (
        "the RTP of the call reached the recorder, its SIP did not: the mirror must show the signalling, too",
        "RTP звонка дошёл до регистратора, а SIP нет: зеркало должно показывать и сигнализацию",
    ),
    (
        "{} frames reached the recorder, but not the INVITE: the mirror does not show the port of this card",
        "до регистратора дошло кадров: {}, но не INVITE: зеркало не показывает порт этой карты",
    ),
    (
        "the SIP messages arrived, no RTP: the mirror must show the media as well (another VLAN, or a filter of UDP ports)",
        "сообщения SIP дошли, RTP нет: зеркало должно показывать и звук (другой VLAN или фильтр портов UDP)",
    ),
    (
        "the SIP messages of the {} arrived, but not the RTP: a filter before the recorder removes RTP",
        "сообщения SIP {} дошли, а RTP нет: RTP убирает фильтр перед регистратором",
    ),
    ("{} of {} packets were lost by this machine: {}", "эта машина потеряла пакетов: {} из {}; {}"),
    (
        "{} of {} RTP packets are missing: the mirror port loses frames",
        "не хватает пакетов RTP: {} из {}; порт зеркала теряет кадры",
    ),
    (
        "{} and {} of {} RTP packets arrived from caller and callee",
        "пришли пакеты RTP от звонившего и ответившего: {} и {} из {}",
    ),
    ("the recording could not be written: {}", "запись не удалось сохранить: {}"),
    ("it is not complete after {} s; {}", "она не готова через {} с; {}"),
    ("the call cannot be heard: {}", "звонок не слышен: {}"),
    (
        "a rule forbids to record a call between these numbers (`callspan calls show {}` names it): choose others with --from and --to",
        "правило запрещает записывать звонок между этими номерами (его называет `callspan calls show {}`): задайте другие через --from и --to",
    ),
    ("there is no recording", "записи нет"),
    ("the recording has {} s of a call of {} s", "в записи {} с звонка длиной {} с"),
    ("call {} has both sides, {} s", "в звонке {} обе стороны, {} с"),
    ("not compared, because the recording is encrypted already", "не сравнивалось: запись уже зашифрована"),
    ("the recording {} cannot be read: {}", "запись {} не читается: {}"),
    ("pyrus.enabled is false: nothing is delivered", "pyrus.enabled = false: ничего не передаётся"),
    ("not configured", "не настроено"),
    ("done: Pyrus task {}", "готово: задача Pyrus {}"),
    ("Pyrus takes no calls: {}", "Pyrus не принимает звонки: {}"),
    (
        "the console cannot listen on {} ({}): set console.listen to another port, or stop the program that uses it",
        "консоль не может принимать соединения на {} ({}): задайте в console.listen другой порт или остановите программу, которая его занимает",
    ),
    ("Pyrus takes calls; --deliver sends this one, too", "Pyrus принимает звонки; с --deliver передаётся и этот"),
    (
        "the login at Pyrus has no answer yet, after {} s: check auth_url in [pyrus] and the network",
        "вход в Pyrus ещё без ответа, прошло {} с: проверьте auth_url в [pyrus] и сеть",
    ),
    (
        "the configuration does not deliver this call: pyrus.directions, or a rule with no_register",
        "конфигурация не передаёт этот звонок: pyrus.directions или правило с no_register",
    ),
    ("Pyrus does not have the call yet: {}; {}", "в Pyrus звонка ещё нет: {}; {}"),
    (
        "the mirror is one-way: it shows the packets that the {} sends, not those of the {}. Set the mirror session to both directions (rx and tx)",
        "зеркало одностороннее: видны пакеты {}, а пакетов {} нет. Задайте сессии зеркала оба направления (rx и tx)",
    ),
    ("the SIP messages of both directions arrived", "сообщения SIP обоих направлений дошли"),
    ("the disk of the spool is full: free space in spool.dir", "диск буфера заполнен: освободите место в spool.dir"),
    ("the spool could not be written: look at the disk of spool.dir", "буфер не записался: проверьте диск spool.dir"),
    ("the caller's tone is left, the callee's right", "тон звонившего слева, ответившего справа"),
    ("the sides are swapped: the caller's tone is on the right", "стороны перепутаны: тон звонившего справа"),
    ("the channels hold sound of the other side", "в каналах звук другой стороны"),
    ("the tone of the {} is not in its channel", "тона {} нет в его канале"),
    ("the network card does not take a packet", "сетевая карта не принимает пакет"),
    ("{} is no Ethernet card", "{} — не карта Ethernet"),
    (
        "sending on {} needs CAP_NET_RAW: run the command with sudo",
        "для отправки через {} нужен CAP_NET_RAW: запустите команду через sudo",
    ),
    (
        "cannot send on {}: {} (`ip link` lists the interfaces)",
        "отправить через {} нельзя: {} (`ip link` покажет интерфейсы)",
    ),
    ("another process writes the report", "отчёт пишет другой процесс"),
    ("another process works on the call", "над звонком работает другой процесс"),
];

/// Russian texts for phrases that are inserted into descriptions of alarms.
const ALARM_PHRASES: &[(&str, &str)] = &[
    ("spool", "буфера"),
    ("state", "состояния"),
    ("recording", "записей"),
    ("caller", "звонившего"),
    ("callee", "ответившего"),
    ("caller and the callee", "звонившего и ответившего"),
    ("it is owed", "звонок в очереди"),
    (
        "increase capture.buffer_mib, or give it more processor time",
        "увеличьте capture.buffer_mib или дайте ей больше процессорного времени",
    ),
    ("an earlier rebuild of the journal was interrupted", "прежнее восстановление журнала было прервано"),
    ("the journal was missing", "журнала не было"),
    ("the journal was damaged ({}) and is kept as {}", "журнал был повреждён ({}) и сохранён как {}"),
    ("list them with: ip link", "список: ip link"),
    ("this machine has {}", "на этой машине есть {}"),
    ("{} is in /etc/fstab, and nothing is mounted there", "{} есть в /etc/fstab, но там ничего не подключено"),
    (
        "the disk belongs to another recorder, or is an earlier disk of this recorder",
        "диск принадлежит другому регистратору или это прежний диск этого регистратора",
    ),
    ("another disk with a folder of callspan is there", "там другой диск с папкой callspan"),
    ("another disk is mounted at {}", "в {} подключён другой диск"),
    ("{} is not mounted", "{} не подключён"),
    ("PostgreSQL is silent for {} s", "PostgreSQL молчит уже {} с"),
    ("a row of the recordings is wrong: {}", "строка о записях неверна: {}"),
    (
        "the schema has version {}, this callspan knows versions up to {}: install the newer callspan",
        "у схемы версия {}, этот callspan знает версии до {}: установите более новый callspan",
    ),
    (
        "its content is not what the journal says; run `callspan calls verify`",
        "его содержимое не такое, как в журнале; выполните `callspan calls verify`",
    ),
    (
        "the archive has another object under the key of this recording, and it is never replaced",
        "в архиве под ключом этой записи другой объект, и он никогда не заменяется",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::phrasebook::sources::assert_translated;

    #[test]
    fn each_kind_has_a_title_of_its_own() {
        let mut titles: Vec<&str> = AlarmKind::ALL.into_iter().map(title).collect();
        titles.sort_unstable();
        titles.dedup();
        assert_eq!(titles.len(), AlarmKind::ALL.len(), "two kinds have one title");
    }

    #[test]
    fn alarms_about_the_mirror_and_test_calls_quote_other_sentences() {
        for (english, russian) in [
            (
                "RTP is seen in one direction only (for example from 10.0.0.1 to 10.0.0.2). The mirror copies only one direction of the port, so recordings would have one side. Mirror both directions. On a Cisco switch: no monitor session 1 source interface Gi1/0/1; monitor session 1",
                "RTP виден только в одном направлении (например от 10.0.0.1 к 10.0.0.2). Зеркало копирует только одно направление порта, и в записях была бы одна сторона. Зеркалируйте оба направления. На коммутаторе Cisco: no monitor session 1 source interface Gi1/0/1; monitor session 1",
            ),
            (
                "the test call was lost at the step mirror: the mirror is one-way: it shows the packets that the caller sends, not those of the callee. Set the mirror session to both directions (rx and tx)",
                "проверочный звонок потерян на шаге mirror: зеркало одностороннее: видны пакеты звонившего, а пакетов ответившего нет. Задайте сессии зеркала оба направления (rx и tx)",
            ),
            (
                "the spool folder /var/spool/x is full (12 MiB left): free some space now; calls are lost once the memory is full too",
                "папка буфера (/var/spool/x) заполнена (осталось 12 МиБ): освободите место сейчас; когда заполнится и память, звонки будут теряться",
            ),
            (
                "a bug in callspan, in the journal thread: index out of bounds (src/x.rs:7)",
                "ошибка в callspan, в потоке journal: index out of bounds (src/x.rs:7)",
            ),
            ("index: PostgreSQL is silent for 30 s", "индекс: PostgreSQL молчит уже 30 с"),
            (
                "the journal was missing; it was rebuilt from the records of 2 calls in /var/lib/callspan",
                "журнала не было; он восстановлен по записям (2 звонка) из /var/lib/callspan",
            ),
        ] {
            assert_eq!(ALARMS.text(english).as_deref(), Some(russian));
        }
    }

    /// Searches the sources that raise alarms for string literals of four words or more. Each literal is a description
    /// for people, so it must have a translation.
    #[test]
    fn every_description_of_an_alarm_has_a_translation() {
        let sources = [
            include_str!("alarm_cause.rs"),
            include_str!("disk.rs"),
            include_str!("drops.rs"),
            include_str!("panics.rs"),
            include_str!("../archive/job.rs"),
            include_str!("../central/index.rs"),
            include_str!("../central/migrate.rs"),
            include_str!("../central/mod.rs"),
            include_str!("../central/objects.rs"),
            include_str!("../service/archive.rs"),
            include_str!("../service/recovery.rs"),
            include_str!("../service/startup_failure.rs"),
            include_str!("../spool/storage.rs"),
            include_str!("../service/mirror_watch.rs"),
            include_str!("../service/site_watch.rs"),
            include_str!("../service/watch.rs"),
            include_str!("../service/worker.rs"),
            include_str!("../service/encrypt.rs"),
            include_str!("../capture/live/mod.rs"),
            include_str!("../cmd/test_call/delivery_step.rs"),
            include_str!("../cmd/test_call/trace.rs"),
            include_str!("../cmd/test_call/wire.rs"),
        ];
        assert_translated(&ALARMS, (&sources, 60), 4, is_other);
    }

    /// Returns whether a string literal needs no translation, because it is for logs, for developers or only a part of
    /// a sentence.
    fn is_other(literal: &str) -> bool {
        let parts = [
            "another transaction uses a table",
            "another update of the schema",
            "cannot start the",
            "cannot be saved",
            "cannot be marked",
            "cannot be removed",
            "cannot be counted",
            "the next start must",
            "delivery has ended;",
            "differ between platforms",
            "where time enters",
            "IO module",
            "a real wire",
            "a Vec takes it",
            "is not UTF-8",
            "a file has a folder",
            "{why}; it is tried again",
            "the journal cannot be rebuilt",
            "it is not entered into the journal",
            "it was missing already when",
            "waits until its recordings are encrypted",
            "cannot be reached yet",
            "does not take the health",
            "signs of life between",
            "before it ends, so that it is not restarted",
            "that could not be read",
            "too long to be read whole",
            "with a missing or broken fragment",
            "cut by the snap length",
        ];
        // These literals are only parts of sentences: `DropCounters` puts a number and a noun before them.
        let events = ["refused (", "dropped in favour", "of no known call", "of TCP streams", "in fragments dropped"];
        let statements = ["BEGIN; ", "SELECT ", "CREATE INDEX ", "DROP INDEX "];
        let is_sql = literal.contains("callspan.")
            || literal.contains("statement_timeout")
            || statements.iter().any(|statement| literal.starts_with(statement));
        let is_part = parts.iter().any(|part| literal.contains(part));
        is_sql
            || literal.starts_with("{INDEXED_CALL}")
            || is_part
            || events.iter().any(|event| literal.starts_with(event))
    }
}
