use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::error::Error;
use crate::process::{own_group, tail};
use crate::scratch::Scratch;
use crate::wait::wait_for;

/// The browser reads commands from descriptor 3 and answers on descriptor 4, and ends when either is closed.
const PIPES: &str = r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null"#;
/// What of the browser's own traffic and decoration is of no use here.
const FLAGS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",
];
/// Only bounds how long a broken test takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A headless Chromium with one page, driven by the `DevTools` protocol over a pipe: nothing listens on a port.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    commands: Option<ChildStdin>,
    messages: Receiver<Value>,
    events: VecDeque<Value>,
    session: Option<String>,
    last_id: u64,
    scratch: Scratch,
}

impl Browser {
    /// Starts one with an empty page.
    ///
    /// # Errors
    ///
    /// If the machine has none, which no test takes for a pass.
    pub fn start() -> Result<Self, Error> {
        Self::start_program("chromium")
    }

    fn start_program(program: &str) -> Result<Self, Error> {
        let scratch = Scratch::new()?;
        let log = File::create(scratch.path().join("log")).map_err(Error::io("creating a log"))?;
        let mut command = Command::new("sh");
        command
            .args(["-c", PIPES, "sh", program])
            .args(FLAGS)
            .arg(format!(
                "--user-data-dir={}",
                scratch.path().join("profile").display()
            ))
            .env("HOME", scratch.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut child = own_group(&mut command)
            .spawn()
            .map_err(Error::io("starting a browser"))?;
        let answers = child.stdout.take();
        let (sender, messages) = channel();
        // It ends with the browser, or with the receiver.
        thread::spawn(move || {
            for message in BufReader::new(answers?).split(0) {
                sender.send(serde_json::from_slice(&message.ok()?).ok()?).ok()?;
            }
            Some(())
        });
        let mut browser = Self {
            commands: child.stdin.take(),
            child,
            messages,
            events: VecDeque::new(),
            session: None,
            last_id: 0,
            scratch,
        };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}))?;
        let attached = json!({"targetId": text_at(&target, "/targetId"), "flatten": true});
        let attached = browser.call("Target.attachToTarget", &attached)?;
        browser.session = Some(text_at(&attached, "/sessionId").to_owned());
        for domain in ["Page", "Network", "Log", "Runtime"] {
            browser.call(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(browser)
    }

    /// Opens a file, and waits until it is loaded. Events of what was open before are forgotten.
    pub fn open(&mut self, file: &Path) -> Result<(), Error> {
        self.events.clear();
        let url = format!("file://{}", file.display());
        self.call("Page.navigate", &json!({"url": url}))?;
        while !self.has_happened("Page.loadEventFired") {
            let message = self.receive()?;
            self.events.push_back(message);
        }
        Ok(())
    }

    /// The value of an expression of JavaScript in the page.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value, Error> {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", &parameters)?;
        match answer.get("exceptionDetails") {
            Some(details) => Err(Error::Browser(format!("{expression}: {details}"))),
            None => Ok(answer.pointer("/result/value").cloned().unwrap_or_default()),
        }
    }

    /// Presses and releases a key of the keyboard: `Tab` or `Enter`.
    pub fn press(&mut self, key: &str) -> Result<(), Error> {
        let (code, text) = if key == "Enter" { (13, "\r") } else { (9, "") };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let event =
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text});
            self.call("Input.dispatchKeyEvent", &event)?;
        }
        Ok(())
    }

    /// Types a text where the focus is.
    pub fn type_text(&mut self, text: &str) -> Result<(), Error> {
        self.call("Input.insertText", &json!({"text": text})).map(drop)
    }

    /// Makes the window as large as that, in pixels.
    pub fn resize(&mut self, width: u32, height: u32) -> Result<(), Error> {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &metrics)
            .map(drop)
    }

    /// A picture of the window, as PNG.
    pub fn screenshot(&mut self) -> Result<Vec<u8>, Error> {
        let answer = self.call("Page.captureScreenshot", &json!({"format": "png"}))?;
        let picture = text_at(&answer, "/data");
        STANDARD
            .decode(picture)
            .map_err(|error| Error::Browser(error.to_string()))
    }

    /// The parameters of the events of that name, since the page was opened.
    pub fn events<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        let named = self
            .events
            .iter()
            .filter(move |event| text_at(event, "/method") == name);
        named.filter_map(|event| event.get("params"))
    }

    /// Sends a command of the `DevTools` protocol, and waits for its answer.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Result<Value, Error> {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let (Some(session), Some(fields)) = (&self.session, message.as_object_mut()) {
            fields.insert("sessionId".to_owned(), json!(session));
        }
        let sent = self.commands.as_mut().map(|commands| {
            let text = message.to_string() + "\0";
            commands.write_all(text.as_bytes())
        });
        if !matches!(sent, Some(Ok(()))) {
            return Err(self.gone());
        }
        loop {
            let mut message = self.receive()?;
            if message.get("id") != Some(&json!(id)) {
                self.events.push_back(message);
            } else if let Some(error) = message.get("error") {
                return Err(Error::Browser(format!("{method}: {error}")));
            } else {
                return Ok(message.get_mut("result").map(Value::take).unwrap_or_default());
            }
        }
    }

    fn has_happened(&self, name: &str) -> bool {
        self.events(name).next().is_some()
    }

    fn receive(&mut self) -> Result<Value, Error> {
        let message = self.messages.recv_timeout(PATIENCE);
        message.map_err(|_| self.gone())
    }

    /// Why nothing comes from it.
    fn gone(&mut self) -> Error {
        // Its pipe can close a moment before its end is known.
        let ended = wait_for("its end", Duration::from_secs(1), || {
            self.child.try_wait().ok().flatten()
        });
        if ended.is_ok_and(|status| status.code() == Some(127)) {
            return Error::NoBrowser;
        }
        let log = tail(&self.scratch.path().join("log")).unwrap_or_default();
        Error::Browser(format!("it gives no answer; the end of its log:\n{log}"))
    }
}

/// A text in a message.
fn text_at<'a>(message: &'a Value, pointer: &str) -> &'a str {
    message
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends by itself when its pipe does; one that hangs is killed.
        drop(self.commands.take());
        let ended = wait_for("its end", Duration::from_secs(10), || {
            self.child.try_wait().ok().flatten()
        });
        if ended.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_browser_fails_the_test() {
        let missing = Browser::start_program("no-such-browser");
        assert!(matches!(&missing, Err(Error::NoBrowser)), "{missing:?}");
    }

    #[test]
    fn a_browser_that_ends_is_told_with_its_log() {
        let ended = Browser::start_program("false");
        assert!(matches!(&ended, Err(Error::Browser(_))), "{ended:?}");
    }
}
