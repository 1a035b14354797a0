//! Chromium, headless: opens the page, looks at it, and keeps what it complains of.

use headless_chrome::browser::tab::Tab;
use headless_chrome::protocol::cdp::types::Event;
use headless_chrome::protocol::cdp::{Emulation, Log, Page, Runtime};
use headless_chrome::{Browser, LaunchOptions};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long something may take to come about, on a machine that has much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// Starts of a browser that may come to nothing: it has 30 s each time.
const STARTS: usize = 3;

/// A tab of a browser.
pub(crate) struct Window {
    tab: Arc<Tab>,
    complaints: Arc<Mutex<Vec<String>>>,
    browser: Browser,
}

/// Debian's `chromium`.
fn program() -> PathBuf {
    let names = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let found = names.into_iter().map(PathBuf::from).find(|path| path.exists());
    found.expect("chromium is installed: sudo apt-get install chromium")
}

impl Window {
    /// Opens `url`.
    pub(crate) fn open(url: &str) -> Self {
        let arguments = ["--disable-dev-shm-usage", "--hide-scrollbars", "--force-prefers-reduced-motion"];
        let options = LaunchOptions::default_builder()
            .path(Some(program()))
            .port(Some(0)) // its own choice: a port that was found free may be another browser's by then
            .sandbox(false) // root has none
            .window_size(Some((1440, 900)))
            .idle_browser_timeout(Duration::from_mins(5))
            .args(arguments.map(OsStr::new).to_vec())
            .build()
            .expect("options");
        let mut started = Browser::new(options.clone());
        for _ in 1..STARTS {
            if started.is_err() {
                started = Browser::new(options.clone());
            }
        }
        let browser = started.expect("chromium starts");
        browser.set_default_timeout(PATIENCE);
        Self::of(browser, url)
    }

    /// Opens `url` in another tab of the same browser.
    pub(crate) fn another(&self, url: &str) -> Self {
        Self::of(self.browser.clone(), url)
    }

    fn of(browser: Browser, url: &str) -> Self {
        let tab = browser.new_tab().expect("a tab");
        tab.set_default_timeout(PATIENCE);
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&complaints);
        let listen = move |event: &Event| {
            if let Some(complaint) = complaint(event) {
                into.lock().unwrap_or_else(PoisonError::into_inner).push(complaint);
            }
        };
        tab.add_event_listener(Arc::new(listen)).expect("a listener");
        tab.enable_log().expect("the log");
        tab.call_method(Runtime::Enable(None)).expect("the console");
        let window = Self { tab, complaints, browser };
        window.go(url);
        window
    }

    /// Goes to another address.
    pub(crate) fn go(&self, url: &str) {
        self.tab.navigate_to(url).and_then(|tab| tab.wait_until_navigated()).expect("the page opens");
    }

    /// The value of an expression, as text; promises are awaited.
    pub(crate) fn text(&self, expression: &str) -> String {
        let value = self.tab.evaluate(expression, true).expect(expression).value;
        match value {
            Some(serde_json::Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    /// Waits until an expression is true.
    pub(crate) fn until(&self, expression: &str) {
        let start = Instant::now();
        while self.text(&format!("Boolean({expression})")) != "true" {
            assert!(
                start.elapsed() < PATIENCE,
                "never true: {expression}\n{}",
                self.text("document.body.innerText")
            );
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Brings the tab to the front.
    pub(crate) fn front(&self) {
        self.tab.activate().expect("it comes to the front");
    }

    /// Clicks on the first element that fits.
    pub(crate) fn click(&self, selector: &str) {
        self.until(&format!("document.querySelector({selector:?})"));
        self.text(&format!("document.querySelector({selector:?}).click()"));
    }

    /// Presses a key.
    pub(crate) fn press(&self, key: &str) {
        self.tab.press_key(key).expect("a key");
    }

    /// Sets the value of a field, as typing would.
    pub(crate) fn fill(&self, selector: &str, value: &str) {
        let set = format!(
            "(() => {{ const field = document.querySelector({selector:?}); field.value = {value:?}; \
             field.dispatchEvent(new Event('input', {{ bubbles: true }})); }})()"
        );
        self.text(&set);
    }

    /// Another size, in CSS pixels, and another theme.
    pub(crate) fn look(&self, width: u32, height: u32, theme: &str) {
        let size = Emulation::SetDeviceMetricsOverride {
            width,
            height,
            device_scale_factor: 1.0,
            mobile: width < 600,
            scale: None,
            screen_width: None,
            screen_height: None,
            position_x: None,
            position_y: None,
            dont_set_visible_size: None,
            screen_orientation: None,
            viewport: None,
            display_feature: None,
            device_posture: None,
        };
        self.tab.call_method(size).expect("a size");
        let feature = Emulation::MediaFeature { name: "prefers-color-scheme".into(), value: theme.into() };
        self.tab
            .call_method(Emulation::SetEmulatedMedia { media: None, features: Some(vec![feature]) })
            .expect("a theme");
    }

    /// Writes a PNG of what is to be seen.
    pub(crate) fn shot(&self, path: &Path) {
        let format = Page::CaptureScreenshotFormatOption::Png;
        let png = self.tab.capture_screenshot(format, None, None, true).expect("a screenshot");
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).expect("a directory");
        }
        std::fs::write(path, png).expect("a file");
    }

    /// What the browser complained of: errors on the console, exceptions, violations of the policy.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn complaint(event: &Event) -> Option<String> {
    match event {
        Event::LogEntryAdded(event) => {
            let entry = &event.params.entry;
            (entry.level == Log::LogEntryLevel::Error || entry.level == Log::LogEntryLevel::Warning)
                .then(|| format!("{} {:?}", entry.text, entry.url))
        }
        Event::RuntimeExceptionThrown(event) => Some(format!("{:?}", event.params.exception_details)),
        Event::RuntimeConsoleAPICalled(event) => {
            let is_bad = event.params.Type == Runtime::ConsoleAPICalledEventTypeOption::Error;
            is_bad.then(|| format!("{:?}", event.params.args))
        }
        _ => None,
    }
}
