//! Error texts of the fake Pyrus. The error codes are those of Pyrus, but the texts are invented, because the real
//! texts are not public. So no client may depend on the texts.

use super::options::ErrorLanguage;

/// Returns the text for an error code.
pub(super) fn text(code: &str, lang: ErrorLanguage) -> &'static str {
    let (en, ru) = both(code);
    match lang {
        ErrorLanguage::En => en,
        ErrorLanguage::Ru => ru,
    }
}

fn both(code: &str) -> (&'static str, &'static str) {
    match code {
        "invalid_credentials" => ("Invalid login/secret_key.", "Неверный логин или секретный ключ."),
        "token_not_specified" => ("Authorization token is not specified.", "Токен авторизации не указан."),
        "invalid_token" => ("Invalid authorization token.", "Неверный токен авторизации."),
        "expired_token" => ("Authorization token has expired.", "Срок действия токена авторизации истек."),
        "revoked_token" => ("Authorization token has been revoked.", "Токен авторизации был отозван."),
        "account_blocked" => ("The account is blocked.", "Учетная запись заблокирована."),
        "too_many_requests" => {
            ("You have reached the limit of requests per 10 minutes.", "Превышен лимит запросов за 10 минут.")
        }
        "empty_body" => ("The request body is empty.", "Тело запроса пустое."),
        "invalid_json" => ("The request body is not valid JSON.", "Тело запроса не является корректным JSON."),
        "too_large_request_length" => ("The request is too large.", "Размер запроса слишком велик."),
        "no_file_in_request" => ("There is no file in the request.", "В запросе нет файла."),
        "empty_file" => ("The file is empty.", "Файл пуст."),
        "bad_multipart_content" => ("Bad multipart content.", "Некорректное содержимое multipart."),
        "max_file_name_length_exceeded" => ("The file name is too long.", "Слишком длинное имя файла."),
        "unrecognized_account_id" => ("The account is not registered.", "Аккаунт не зарегистрирован."),
        "webhook_is_disabled" => ("The user has turned off notifications.", "Пользователь отключил уведомления."),
        "required_parameters_not_specified" => {
            ("Required parameters are not specified.", "Не указаны обязательные параметры.")
        }
        "unrecognized_call_id" => ("The call is not registered.", "Звонок не зарегистрирован."),
        "unrecognized_task_id" => ("There is no such task.", "Задача не найдена."),
        "unrecognized_attachment_id" => {
            ("User has no attachment with specified id.", "У пользователя нет файла с таким идентификатором.")
        }
        "unsupported_record_file_format" => {
            ("The format of the recording is not supported.", "Формат файла записи не поддерживается.")
        }
        "too_many_attachments" => ("The task has too many attachments.", "В задаче слишком много файлов."),
        "too_many_comments" => ("The task has too many comments.", "В задаче слишком много комментариев."),
        "server_error" => ("Internal server error.", "Внутренняя ошибка сервера."),
        "unrecognized_call_guid" => ("There is no call with this guid.", "Звонок с таким guid не найден."),
        "unrecognized_integration_guid" => {
            ("There is no integration with this guid.", "Интеграция с таким guid не найдена.")
        }
        "invalid_value_format" => ("A value has a wrong format.", "Неверный формат значения."),
        _ => ("Error.", "Ошибка."),
    }
}
