use super::*;
use crate::journal::CallScope;
use crate::time::Timestamp;

fn accounts() -> (Accounts, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("temporary folder");
    (Accounts::open(dir.path()).expect("opens"), dir)
}

fn listener(name: &str) -> UserAccount {
    UserAccount {
        name: name.to_owned(),
        role: AccountRole::Listener,
        scope: CallScope { extensions: vec![String::from("1xx")], ..CallScope::default() },
        rights: vec![AccountRight::List, AccountRight::Play],
    }
}

fn at(s: i64) -> Timestamp {
    Timestamp::from_secs(1_800_000_000 + s)
}

#[test]
fn only_the_right_password_opens_an_account() {
    let (accounts, _dir) = accounts();
    assert!(!accounts.has_users().unwrap());
    accounts.put_user(&listener("anna"), "correct horse", at(0)).unwrap();
    assert_eq!(accounts.check_password("anna", "correct horse").unwrap(), Some(listener("anna")));
    assert_eq!(accounts.check_password("anna", "correct hors").unwrap(), None);
    assert_eq!(accounts.check_password("nobody", "correct horse").unwrap(), None);
    assert!(accounts.put_user(&listener("bad name"), "correct horse", at(0)).is_err());
    assert!(accounts.put_user(&listener("b"), "short", at(0)).is_err());
    let everything = CallScope { extensions: vec![String::new()], ..CallScope::default() };
    let wide = UserAccount { scope: everything, ..listener("b") };
    assert!(accounts.put_user(&wide, "correct horse", at(0)).is_err(), "an empty pattern must not mean all extensions");
}

#[test]
fn the_file_holds_neither_password_nor_cookie() {
    let (accounts, dir) = accounts();
    accounts.put_user(&listener("anna"), "correct horse", at(0)).unwrap();
    let token = accounts.open_session("anna", at(0)).unwrap().token;
    let mut bytes = std::fs::read(dir.path().join(FILE_NAME)).unwrap();
    bytes.extend(std::fs::read(dir.path().join("console.sqlite-wal")).unwrap_or_default());
    assert!(bytes.windows(4).any(|w| w == b"anna"), "the account is in the file");
    for secret in ["correct horse", token.as_str()] {
        assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()));
    }
}

#[test]
fn session_ends_with_sign_out_time_new_password_and_removal() {
    let (accounts, dir) = accounts();
    accounts.put_user(&listener("anna"), "correct horse", at(0)).unwrap();
    let open = || accounts.open_session("anna", at(0)).unwrap().token;
    let is_open = |token: &str, s: i64| accounts.session(token, at(s)).unwrap().is_some();
    let token = open();
    assert!(is_open(&token, 10) && !is_open(&token, 13 * 3_600) && !is_open("x", 10));
    let again = Accounts::open(dir.path()).unwrap();
    assert!(again.session(&token, at(20)).unwrap().is_some(), "it survives a restart");
    accounts.close_session(&token).unwrap();
    assert!(!is_open(&token, 10));
    let token = open();
    accounts.put_user(&listener("anna"), "another horse", at(5)).unwrap();
    assert!(!is_open(&token, 10));
    let token = open();
    assert!(accounts.remove_user("anna").unwrap() && !is_open(&token, 10));
}

#[test]
fn audit_rows_are_returned_newest_first_by_filter() {
    let (accounts, _dir) = accounts();
    accounts.record("anna", AuditAction::Played, Some("a"), "part 1", at(1)).unwrap();
    accounts.record("boris", AuditAction::SignedIn, None, "", at(2)).unwrap();
    accounts.record("boris", AuditAction::Downloaded, Some("a"), "", at(3)).unwrap();
    let actions = |filter: AuditFilter| -> Vec<String> {
        accounts.audit(&filter, 10).unwrap().into_iter().map(|row| row.action).collect()
    };
    assert_eq!(actions(AuditFilter::default()), ["downloaded", "signed_in", "played"]);
    assert_eq!(
        actions(AuditFilter { call_id: Some("a".to_owned()), ..AuditFilter::default() }),
        ["downloaded", "played"]
    );
    assert_eq!(actions(AuditFilter { who: Some("anna".to_owned()), ..AuditFilter::default() }), ["played"]);
    assert_eq!(actions(AuditFilter { since: Some(at(3)), ..AuditFilter::default() }), ["downloaded"]);
}

#[test]
fn several_programs_can_make_new_accounts_at_the_same_moment() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let open = || Accounts::open(folder.path()).map(drop);
        let results = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }
}

#[test]
fn failed_sign_ins_of_strangers_are_one_row_an_hour() {
    let (accounts, _dir) = accounts();
    accounts.put_user(&listener("anna"), "correct horse", at(0)).unwrap();
    for n in 0..500 {
        accounts.record_failed_sign_in(&format!("stranger{n}"), at(n)).unwrap();
    }
    accounts.record_failed_sign_in("anna", at(600)).unwrap();
    accounts.record_failed_sign_in("anna", at(601)).unwrap();
    accounts.record("anna", AuditAction::SignedIn, None, "", at(602)).unwrap();
    accounts.record_failed_sign_in("stranger", at(3_700)).unwrap();
    accounts.record_failed_sign_in("anna", at(4_300)).unwrap();
    let rows = accounts.audit(&AuditFilter::default(), 100).unwrap();
    let rows: Vec<_> = rows.iter().map(|row| (row.who.as_str(), row.action.as_str(), row.detail.as_deref())).collect();
    assert_eq!(
        rows,
        [
            ("anna", "wrong_password", None),
            ("(unknown)", "wrong_password", None),
            ("anna", "signed_in", None),
            ("anna", "wrong_password", Some("2 tries until 2027-01-15T08:10:01Z")),
            ("(unknown)", "wrong_password", Some("500 tries until 2027-01-15T08:08:19Z")),
        ]
    );
    let mut stranger = listener("(unknown)");
    stranger.name = String::from("(unknown)");
    assert!(accounts.put_user(&stranger, "a password", at(1)).is_err(), "no user can have the name");
}

#[test]
fn sites_of_a_scope_are_kept_and_only_of_listeners() {
    let (accounts, _dir) = accounts();
    let scope = |site: &str| CallScope { sites: vec![site.to_owned()], ..CallScope::default() };
    let north = UserAccount { scope: scope("north"), ..listener("anna") };
    accounts.put_user(&north, "correct horse", at(0)).expect("put");
    assert_eq!(accounts.user("anna").expect("read"), Some(north.clone()));
    let token = ApiToken { account: north.clone(), expires_at: at(9) };
    let text = accounts.add_token(&token, at(0)).expect("added");
    assert_eq!(accounts.token(&text, at(1)).expect("read").expect("valid").account.scope, north.scope);
    for wrong in [
        UserAccount { scope: scope("North; x"), ..listener("boris") },
        UserAccount { role: AccountRole::Auditor, ..north.clone() },
    ] {
        assert!(accounts.put_user(&wrong, "correct horse", at(0)).is_err(), "{wrong:?}");
    }
}

#[test]
fn accounts_of_the_version_before_see_every_site() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let old = Connection::open(dir.path().join(FILE_NAME)).expect("a file");
    old.execute_batch(&format!("{V1}{V2}")).expect("the tables of version 2");
    let row = "INSERT INTO users (name, password, role, extensions, directions, rights, created_at)
        VALUES ('anna', 'x', 'listener', '1xx', '', 'list', 0)";
    old.execute(row, []).expect("a user");
    drop(old);
    let user = Accounts::open(dir.path()).expect("migrated").user("anna").expect("read").expect("there");
    assert_eq!(user.scope, CallScope { extensions: vec![String::from("1xx")], ..CallScope::default() });
}
