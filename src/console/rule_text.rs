//! Sentences that explain correlation rules, i.e. why a leg belongs to a call, in both languages.

use super::text::Lang;
use crate::call::correlation_rule::CorrelationRule;

impl Lang {
    /// Returns the sentence that explains a correlation rule in this language.
    pub(super) const fn rule(self, rule: CorrelationRule) -> &'static str {
        match self {
            Self::En => rule.sentence(),
            Self::Ru => russian(rule),
        }
    }
}

/// Returns the Russian sentence that explains a correlation rule.
pub(crate) const fn russian(rule: CorrelationRule) -> &'static str {
    match rule {
        CorrelationRule::SameDialog => "Call-ID и тег From совпадают: один диалог в двух местах сети.",
        CorrelationRule::CorrelationHeader => "Настроенный заголовок связи имеет то же значение.",
        CorrelationRule::SessionId => "Заголовок Session-ID имеет то же значение.",
        CorrelationRule::RecordingSession => "Сессия самого регистратора (SIPREC) несёт звук этого звонка.",
        CorrelationRule::TagReuse => {
            "В диалоге с этим Call-ID и тегом From уже ответили: этот INVITE начинает другой звонок."
        }
        CorrelationRule::Replaces => "Заголовок Replaces называет другой диалог.",
        CorrelationRule::Refer => "Это плечо запросил REFER другого звонка.",
        CorrelationRule::ReferReplaces => "REFER соединил этот звонок с другим (перевод с консультацией).",
        CorrelationRule::SameCallId => "Call-ID совпадает, и другое плечо ещё живо.",
        CorrelationRule::OnwardBoth => {
            "Машина, получившая другое плечо, сразу отправила это, с теми же двумя номерами."
        }
        CorrelationRule::OnwardOne => "Машина, получившая другое плечо, сразу отправила это, с одним из его номеров.",
        CorrelationRule::Diverted => "Diversion или History-Info называет номер, который набирало другое плечо.",
        CorrelationRule::ForWaitingCaller => {
            "Звонивший другого плеча ждёт на машине, отправившей это плечо, и на этом плече его номер."
        }
        CorrelationRule::AnotherDevice => "АТС звонит на второй аппарат того же внутреннего, и ждёт один звонивший.",
        CorrelationRule::Hairpin => {
            "АТС возвращает звонок внутреннего прокси, от которого он пришёл, от имени внешнего номера."
        }
        CorrelationRule::OwnCall => "Другое плечо идёт на тот же адрес, но относится к отдельному звонку.",
        CorrelationRule::AlreadyRinging => {
            "Звонок уже идёт на этот аппарат: второе плечо к нему — для другого звонившего."
        }
        CorrelationRule::NextTrunk => "Этот номер уже набирали безуспешно: АТС пробует другой транк.",
        CorrelationRule::TriedAgain => "Другое плечо только что получило отказ, и отправитель повторяет вызов.",
        CorrelationRule::ClickToCall => "АТС сначала позвонила внутреннему, а теперь набирает номер.",
        CorrelationRule::NewestUnserved => {
            "Подходят несколько звонивших. Этот пришёл последним, а для остальных АТС уже звонила на телефоны."
        }
        CorrelationRule::MachinePair => {
            "Машина, получившая другое плечо, и машина, отправившая это, — одна машина: так настроено или выучено."
        }
        CorrelationRule::AgreeingNumbers => {
            "Другого подходящего плеча нет: две машины отправили звонки с теми же номерами в пределах полусекунды."
        }
        CorrelationRule::MomentsDisagree => "Плечи связали только по номерам, но ответили и закончили их порознь.",
        CorrelationRule::LateCause => "Плечо, вызвавшее это, захвачено после него.",
        CorrelationRule::LateSibling => {
            "АТС отправила это плечо, потому что на другое ответили или оно закончилось; зеркало показало это плечо мигом раньше."
        }
        CorrelationRule::BothMedia => "Оба плеча называют одни и те же два адреса звука: звук идёт мимо машин.",
        CorrelationRule::MediaAddress => "Оба плеча называют один адрес звука, и их связывает одна машина.",
        CorrelationRule::MediaContent => "Голоса обоих плеч совпадают побайтно: их передаёт одна машина.",
        CorrelationRule::SameMoments => "На плечи ответили и закончили их одновременно.",
        CorrelationRule::RingOutcome => "На аппарат ответили в тот же миг, что и на этого звонившего.",
        CorrelationRule::GroupPickup => "Код перехвата ответили в тот миг, когда сняли этот звонок.",
        CorrelationRule::DirectedPickup => "Набранный код перехвата кончается внутренним, который звонил.",
        CorrelationRule::ForwardedOutside => {
            "АТС позвонила наружу от имени набранного номера, и на оба ответили вместе."
        }
        CorrelationRule::Consultation => "Участник говорил в другом звонке, когда начался этот.",
        CorrelationRule::Parked => "Этот звонок идёт туда, куда перевели другой.",
        CorrelationRule::Ambiguous => "Плечо может принадлежать любому из звонков, и решить нечем.",
        CorrelationRule::TooManyLegs => "У другого звонка уже столько плеч, сколько бывает.",
        CorrelationRule::Survives => "Плечо продолжалось после конца своего звонка.",
        CorrelationRule::OtherSound => "Плечо несло другой звук, чем запись этого звонка.",
        CorrelationRule::Continues => "Диалог кончился по тишине и снова стал слышен.",
        CorrelationRule::Unknown => "Правило другой версии callspan.",
    }
}
