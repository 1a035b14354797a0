//! Headless Chromium: opens the page, evaluates expressions in it, and collects the browser's errors.

use headless_chrome::browser::tab::Tab;
use headless_chrome::protocol::cdp::types::Event;
use headless_chrome::protocol::cdp::{Emulation, Log, Page, Runtime};
use headless_chrome::{Browser, LaunchOptions};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Timeout of every wait; long, because the machine may be busy.
pub const TIMEOUT: Duration = Duration::from_secs(90);
/// Attempts to launch the browser; each times out after 30 s.
const LAUNCH_ATTEMPTS: usize = 3;

/// A tab of a browser.
pub struct Window {
    tab: Arc<Tab>,
    browser_errors: Arc<Mutex<Vec<String>>>,
    browser: Browser,
}

/// The path of the installed browser.
fn browser_path() -> PathBuf {
    let names = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let found = names.into_iter().map(PathBuf::from).find(|path| path.exists());
    found.expect("chromium is installed: sudo apt-get install chromium")
}

impl Window {
    /// Opens `url`.
    pub fn open(url: &str) -> Self {
        let arguments = ["--disable-dev-shm-usage", "--hide-scrollbars", "--force-prefers-reduced-motion"];
        let options = LaunchOptions::default_builder()
            .path(Some(browser_path()))
            .port(Some(0)) // chosen by the browser: a port that was probed as free may be taken by then
            .sandbox(false) // Chromium's sandbox does not work for root
            .window_size(Some((1440, 900)))
            .idle_browser_timeout(Duration::from_mins(5))
            .args(arguments.map(OsStr::new).to_vec())
            .build()
            .expect("options");
        let mut launched = Browser::new(options.clone());
        for _ in 1..LAUNCH_ATTEMPTS {
            if launched.is_err() {
                launched = Browser::new(options.clone());
            }
        }
        let browser = launched.expect("chromium starts");
        browser.set_default_timeout(TIMEOUT);
        Self::new(browser, url)
    }

    /// Opens `url` in another tab of the same browser.
    #[must_use]
    pub fn new_tab(&self, url: &str) -> Self {
        Self::new(self.browser.clone(), url)
    }

    fn new(browser: Browser, url: &str) -> Self {
        let tab = browser.new_tab().expect("a tab");
        tab.set_default_timeout(TIMEOUT);
        let browser_errors = Arc::new(Mutex::new(Vec::new()));
        let errors = Arc::clone(&browser_errors);
        let listener = move |event: &Event| {
            if let Some(error) = error_text(event) {
                errors.lock().unwrap_or_else(PoisonError::into_inner).push(error);
            }
        };
        tab.add_event_listener(Arc::new(listener)).expect("a listener");
        tab.enable_log().expect("the log");
        tab.call_method(Runtime::Enable(None)).expect("the console");
        let window = Self { tab, browser_errors, browser };
        window.navigate(url);
        window
    }

    /// Navigates to a URL and waits until it is loaded.
    pub fn navigate(&self, url: &str) {
        self.tab.navigate_to(url).and_then(|tab| tab.wait_until_navigated()).expect("the page opens");
    }

    /// Evaluates an expression and returns its value as text. Promises are awaited.
    pub fn evaluate(&self, expression: &str) -> String {
        let value = self.tab.evaluate(expression, true).expect(expression).value;
        match value {
            Some(serde_json::Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    /// Waits until an expression is true.
    pub fn wait_until(&self, expression: &str) {
        let start = Instant::now();
        while self.evaluate(&format!("Boolean({expression})")) != "true" {
            assert!(
                start.elapsed() < TIMEOUT,
                "timed out waiting for: {expression}\n{}",
                self.evaluate("document.body.innerText")
            );
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Brings the tab to the front.
    pub fn bring_to_front(&self) {
        self.tab.activate().expect("the tab is activated");
    }

    /// Clicks on the first element that matches.
    pub fn click(&self, selector: &str) {
        self.wait_until(&format!("document.querySelector({selector:?})"));
        self.evaluate(&format!("document.querySelector({selector:?}).click()"));
    }

    /// Presses a key.
    pub fn press_key(&self, key: &str) {
        self.tab.press_key(key).expect("a key");
    }

    /// Sets the value of a field and fires `input`, as typing does.
    pub fn set_value(&self, selector: &str, value: &str) {
        let set = format!(
            "(() => {{ const field = document.querySelector({selector:?}); field.value = {value:?}; \
             field.dispatchEvent(new Event('input', {{ bubbles: true }})); }})()"
        );
        self.evaluate(&set);
    }

    /// Sets the viewport size in CSS pixels and the preferred colour scheme, `light` or `dark`.
    pub fn set_viewport(&self, width: u32, height: u32, theme: &str) {
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

    /// Writes a PNG of the viewport.
    pub fn screenshot(&self, path: &Path) {
        let format = Page::CaptureScreenshotFormatOption::Png;
        let png = self.tab.capture_screenshot(format, None, None, true).expect("a screenshot");
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).expect("a directory");
        }
        std::fs::write(path, png).expect("a file");
    }

    /// Errors so far: on the console, uncaught exceptions, policy violations.
    pub fn browser_errors(&self) -> Vec<String> {
        self.browser_errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The text of an event that reports an error or a warning.
fn error_text(event: &Event) -> Option<String> {
    match event {
        Event::LogEntryAdded(event) => {
            let entry = &event.params.entry;
            (entry.level == Log::LogEntryLevel::Error || entry.level == Log::LogEntryLevel::Warning)
                .then(|| format!("{} {:?}", entry.text, entry.url))
        }
        Event::RuntimeExceptionThrown(event) => Some(format!("{:?}", event.params.exception_details)),
        Event::RuntimeConsoleAPICalled(event) => {
            let is_error = event.params.Type == Runtime::ConsoleAPICalledEventTypeOption::Error;
            is_error.then(|| format!("{:?}", event.params.args))
        }
        _ => None,
    }
}
