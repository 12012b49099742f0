//! Where credentials come from, each way to its end: a server that checks signatures takes what was written.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use conformance::process::{Signal, wait_for};
use conformance::server::AccessKey;
use conformance::site::Site;

use crate::scene::PATIENCE;
use crate::service::{Desk, insert, wait_for_text};

const SECRET: &str = "s3cr3t-0123456789";
const TOKEN: &str = "t0ken-0123456789";

/// A request: method and path, headers in lower case, body.
struct Asked {
    line: String,
    headers: Vec<String>,
    body: String,
}

/// Answers HTTP requests on the loopback address for as long as the test process lives.
struct Fake {
    endpoint: String,
    asked: Arc<AtomicUsize>,
}

impl Fake {
    fn new(answer: impl Fn(&Asked) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A client that breaks off is its own affair.
                let _ = serve(stream, &answer, &count);
            }
        });
        Self { endpoint, asked }
    }
}

fn serve(
    mut stream: TcpStream,
    answer: &impl Fn(&Asked) -> (u16, String),
    count: &AtomicUsize,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let headers: Vec<String> = head.iter().skip(1).map(|line| line.to_lowercase()).collect();
    let len = headers.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; len.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let line = head.first().cloned().unwrap_or_default();
    count.fetch_add(1, Ordering::Relaxed);
    let (status, text) = answer(&Asked { line, headers, body: String::from_utf8_lossy(&body).into_owned() });
    write!(
        stream,
        "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\
         X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 21600\r\n\r\n{text}",
        text.len()
    )
}

/// Credentials as container and instance endpoints give them.
fn json(id: &str, expires: &str) -> String {
    format!(
        r#"{{"Code":"Success","Type":"AWS-HMAC","LastUpdated":"2020-01-01T00:00:00Z","AccessKeyId":"{id}",
            "SecretAccessKey":"{SECRET}","Token":"{TOKEN}","Expiration":"{expires}"}}"#
    )
}

fn temporary(id: &str) -> AccessKey {
    AccessKey { session_token: Some(TOKEN.to_owned()), ..AccessKey::new(id, SECRET) }
}

/// A database and a site whose server knows only these keys.
struct Bank {
    desk: Desk,
    site: Site,
}

impl Bank {
    fn new(keys: Vec<AccessKey>) -> Self {
        let (desk, site) = (Desk::new(), Site::embedded().unwrap());
        site.server().unwrap().set_keys(keys);
        insert(&desk.app("app.db"), 3);
        Self { desk, site }
    }

    /// The product with nothing of the surroundings but these variables.
    fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> std::process::Command {
        let mut command = self.desk.command(arguments);
        command.env_clear().env("HOME", self.desk.path("")).envs(variables.iter().copied());
        command
    }

    /// Replicates once and returns exit code and log.
    fn replicate(&self, variables: &[(&str, &str)]) -> (Option<i32>, String) {
        let arguments = ["replicate", "-once", "-log-level", "debug", "app.db", &self.site.url];
        let output = self.command(&arguments, variables).output().unwrap();
        let mut log = String::from_utf8(output.stdout).unwrap();
        log += &String::from_utf8(output.stderr).unwrap();
        assert!(!log.contains(SECRET) && !log.contains(TOKEN), "a secret is in the log: {log}");
        (output.status.code(), log)
    }

    fn assert_accepted(&self, variables: &[(&str, &str)]) {
        let (code, log) = self.replicate(variables);
        assert_eq!(code, Some(0), "{log}");
        assert!(!self.site.store.list().unwrap().is_empty());
    }
}

#[test]
fn from_the_environment_with_a_session_token() {
    let bank = Bank::new(vec![temporary("env")]);
    let keys = [("AWS_ACCESS_KEY_ID", "env"), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    // The token is needed, so that a lost one would show.
    let (code, log) = bank.replicate(&keys);
    assert!(code == Some(1) && log.contains("InvalidToken"), "{log}");
    bank.assert_accepted(&[keys[0], keys[1], ("AWS_SESSION_TOKEN", TOKEN)]);
}

#[test]
fn from_a_shared_profile() {
    let bank = Bank::new(vec![temporary("work")]);
    let text = format!(
        "[default]\naws_access_key_id = other\naws_secret_access_key = wrong\n[work]\naws_access_key_id = work\n\
         aws_secret_access_key = {SECRET}\naws_session_token = {TOKEN}\n"
    );
    bank.desk.write("credentials", &text);
    let file = bank.desk.path("credentials").display().to_string();
    let named = [("AWS_SHARED_CREDENTIALS_FILE", file.as_str()), ("AWS_PROFILE", "work")];
    let (code, log) = bank.replicate(&named[..1]);
    assert!(code == Some(1) && log.contains("InvalidAccessKeyId"), "the default profile: {log}");
    bank.assert_accepted(&named);
    // In its usual place, too.
    std::fs::create_dir(bank.desk.path(".aws")).unwrap();
    std::fs::rename(&file, bank.desk.path(".aws/credentials")).unwrap();
    bank.assert_accepted(&named[1..]);
}

/// What `aws` itself is often set up with: a program prints them.
#[test]
fn from_a_process() {
    let bank = Bank::new(vec![temporary("process")]);
    let printed = format!(
        r#"{{"Version":1,"AccessKeyId":"process","SecretAccessKey":"{SECRET}","SessionToken":"{TOKEN}",
            "Expiration":"2099-01-01T00:00:00Z"}}"#
    );
    bank.desk.write("printed.json", &printed);
    let text = format!("[default]\ncredential_process = cat {}\n", bank.desk.path("printed.json").display());
    bank.desk.write("config", &text);
    let file = bank.desk.path("config").display().to_string();
    bank.assert_accepted(&[("AWS_CONFIG_FILE", &file), ("PATH", "/usr/bin:/bin")]);
}

#[test]
fn from_a_container() {
    let fake = Fake::new(|asked| {
        let allowed = asked.headers.contains(&"authorization: let me in".to_owned());
        if allowed { (200, json("container", "2099-01-01T00:00:00Z")) } else { (403, String::new()) }
    });
    let bank = Bank::new(vec![temporary("container")]);
    let uri = format!("{}/v2/credentials", fake.endpoint);
    bank.assert_accepted(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &uri),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "let me in"),
    ]);
    assert_eq!(fake.asked.load(Ordering::Relaxed), 1, "asked once, kept for all requests");
}

#[test]
fn from_the_instance_metadata() {
    let fake = Fake::new(|asked| {
        let has_token = asked.headers.contains(&"x-aws-ec2-metadata-token: session".to_owned());
        match asked.line.split(' ').collect::<Vec<_>>()[..] {
            ["PUT", "/latest/api/token", _] => (200, "session".to_owned()),
            ["GET", "/latest/meta-data/iam/security-credentials/", _] if has_token => {
                (200, "role".to_owned())
            }
            ["GET", "/latest/meta-data/iam/security-credentials/role", _] if has_token => {
                (200, json("instance", "2099-01-01T00:00:00Z"))
            }
            _ => (404, String::new()),
        }
    });
    let bank = Bank::new(vec![temporary("instance")]);
    bank.assert_accepted(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &fake.endpoint)]);
}

#[test]
fn from_a_web_identity() {
    let fake = Fake::new(|asked| {
        let fits = asked.body.contains("Action=AssumeRoleWithWebIdentity")
            && asked.body.contains("WebIdentityToken=identity");
        let text = format!(
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
             <AccessKeyId>web</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>\
             <SessionToken>{TOKEN}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
             </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        );
        if fits { (200, text) } else { (400, String::new()) }
    });
    let bank = Bank::new(vec![temporary("web")]);
    bank.desk.write("identity", "identity");
    let file = bank.desk.path("identity").display().to_string();
    bank.assert_accepted(&[
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &file),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/backup"),
        ("AWS_ENDPOINT_URL_STS", &fake.endpoint),
    ]);
}

#[test]
fn expired_credentials_are_renewed_while_running() {
    let current = Arc::new(Mutex::new("first"));
    let given = Arc::clone(&current);
    let fake = Fake::new(move |_| (200, json(*given.lock().unwrap(), "2099-01-01T00:00:00Z")));
    let bank = Bank::new(vec![temporary("first")]);
    let uri = format!("{}/credentials", fake.endpoint);
    let variables = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str())];
    let mut command = bank.command(&["replicate", "app.db", &bank.site.url], &variables);
    let mut process = conformance::process::Process::start(&mut command, &bank.desk.path("log")).unwrap();
    wait_for_text(&process, "full copy complete");
    let before = bank.site.store.list().unwrap().len();
    // Sooner than announced, as when a role is revoked.
    *current.lock().unwrap() = "second";
    let expired = AccessKey { expires: Some(0), ..temporary("first") };
    bank.site.server().unwrap().set_keys(vec![expired, temporary("second")]);
    insert(&bank.desk.app("app.db"), 1);
    wait_for("an object signed with the new key", PATIENCE, || {
        (bank.site.store.list().ok()?.len() > before).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {}", process.output()));
    process.signal(Signal::Terminate).unwrap();
    assert_eq!(process.wait(PATIENCE).unwrap().code(), Some(0), "{}", process.output());
    assert!(!process.output().contains("level=ERROR"), "{}", process.output());
    assert_eq!(
        fake.asked.load(Ordering::Relaxed),
        2,
        "however many requests were under way with the old key"
    );
}

#[test]
fn without_any_the_message_says_what_to_set() {
    let bank = Bank::new(vec![temporary("nobody")]);
    let nowhere = [("AWS_EC2_METADATA_DISABLED", "true")];
    let (code, log) = bank.replicate(&nowhere);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("AWS_ACCESS_KEY_ID"), "{log}");
}

#[test]
fn a_debugging_variable_that_we_lack_is_named() {
    let bank = Bank::new(vec![temporary("env")]);
    let (_, log) = bank.replicate(&[
        ("AWS_ACCESS_KEY_ID", "env"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_SESSION_TOKEN", TOKEN),
        ("LITESTREAM_S3_DEBUG", "signing,request-with-body"),
    ]);
    assert!(log.contains("LITESTREAM_S3_DEBUG") && log.contains("-log-level debug"), "{log}");
    // And that is no empty promise.
    assert!(log.contains("operation=PutObject") && log.contains("key="), "{log}");
}
