//! What a training run leaves for people: one HTML file with its curves, examples, data and settings.
//!
//! The file needs no network and runs no script (a content policy in it forbids both), follows the reader's light or
//! dark setting, and prints. All text passes through a template that escapes it.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::chart::{self, Curve};
use crate::config::Task;
use crate::train::progress::Sample;

/// A training run, ready to be shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// What was learned.
    pub task: Task,
    /// The page's title.
    pub title: String,
    /// The exact command.
    pub command: String,
    /// The configuration as TOML.
    pub config_toml: String,
    /// The data audit as the command line prints it.
    pub audit: String,
    /// What the filters removed, as the command line prints it.
    pub filters: String,
    /// Name and value, such as `BLEU` with its signature.
    pub summary: Vec<(String, String)>,
    /// The charts, in order.
    pub curves: Vec<Curve>,
    /// Examples of what it does.
    pub samples: Vec<Sample>,
    /// Name and version of what else took part; Hexapla's own is added.
    pub versions: Vec<(String, String)>,
}

impl Report {
    /// The whole page.
    pub fn to_html(&self) -> String {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                    title { (self.title) }
                    style { (PreEscaped(chart::STYLE)) (PreEscaped(include_str!("report/style.css"))) }
                }
                body {
                    header {
                        p.kicker { "Training report" }
                        h1 dir="auto" { (self.title) }
                    }
                    main {
                        (self.summary())
                        (self.curves())
                        (self.samples())
                        (preformatted("Data", &self.audit))
                        (preformatted("Filters", &self.filters))
                        (preformatted("Command", &self.command))
                        (preformatted("Configuration", &self.config_toml))
                    }
                    footer { (self.versions()) }
                }
            }
        }
        .into_string()
    }

    fn summary(&self) -> Markup {
        section(
            "Summary",
            self.summary.is_empty(),
            html! {
                table.summary {
                    @for (name, value) in &self.summary {
                        tr { th scope="row" { (name) } td { (value) } }
                    }
                }
            },
        )
    }

    fn curves(&self) -> Markup {
        section(
            "Curves",
            self.curves.is_empty(),
            html! {
                div.charts { @for curve in &self.curves { (chart::figure(curve)) } }
            },
        )
    }

    fn samples(&self) -> Markup {
        let (title, columns) = match self.task {
            Task::Translation => ("Sample translations", ["Source", "Reference", "Hypothesis"]),
            Task::Language => (
                "Sample continuations",
                ["Text", "How it goes on", "What the model writes"],
            ),
        };
        section(
            title,
            self.samples.is_empty(),
            html! {
                div.wide {
                    table.samples {
                        thead { tr { @for column in columns { th { (column) } } } }
                        @for sample in &self.samples {
                            tr {
                                td dir="auto" { (sample.source) }
                                td dir="auto" { (sample.reference) }
                                td dir="auto" {
                                    (sample.hypothesis)
                                    @if sample.hypothesis == sample.reference {
                                        span.same title="equal to the reference" { " ✓" }
                                    }
                                }
                            }
                        }
                    }
                }
                p.note { "✓ marks a hypothesis equal to its reference." }
            },
        )
    }

    fn versions(&self) -> Markup {
        html! {
            "hexapla " (env!("CARGO_PKG_VERSION"))
            @for (name, version) in &self.versions { " · " (name) " " (version) }
        }
    }
}

/// A section with a heading, or nothing if there is nothing to show.
fn section(title: &str, empty: bool, content: Markup) -> Markup {
    html! {
        @if !empty {
            section { h2 { (title) } (content) }
        }
    }
}

fn preformatted(title: &str, text: &str) -> Markup {
    let text = text.trim_matches('\n');
    section(
        title,
        text.is_empty(),
        html! { pre tabindex="0" { code { (text) } } },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::Series;

    const ATTACK: &str =
        "\"'><script>alert(1)</script></style></pre>&amp;<img src=x onerror=alert(1)>";

    fn attacked() -> Report {
        let text = || ATTACK.to_owned();
        Report {
            task: Task::Translation,
            title: text(),
            command: text(),
            config_toml: text(),
            audit: text(),
            filters: text(),
            summary: vec![(text(), text())],
            curves: vec![Curve {
                logarithmic: false,
                title: text(),
                x_label: text(),
                y_label: text(),
                series: vec![Series {
                    name: text(),
                    points: vec![(0.0, 1.0), (1.0, 2.0)],
                }],
            }],
            samples: vec![Sample {
                source: text(),
                reference: text(),
                hypothesis: text(),
            }],
            versions: vec![(text(), text())],
        }
    }

    #[test]
    fn nothing_given_becomes_markup() {
        let page = attacked().to_html();
        let count = |part: &str| page.matches(part).count();
        assert_eq!(
            (count("<script"), count("<img"), count("</style>")),
            (0, 0, 1)
        );
        // Every field is there: the title twice, a chart's texts in its description too.
        assert!(count("&lt;script&gt;") >= 16, "{}", count("&lt;script&gt;"));
        // No quotation mark of the attack closes an attribute.
        assert_eq!(count("\"'>"), 0);
    }

    #[test]
    fn the_page_needs_nothing_from_outside() {
        let page = attacked().to_html();
        for part in [
            " src=", " href=", "url(", "@import", "http:", "https:", "<link", "<iframe",
        ] {
            let given = ATTACK.contains(part);
            assert!(given || !page.contains(part), "{part}");
        }
        assert!(page.contains("default-src 'none'"));
    }

    #[test]
    fn text_is_shown_as_it_is() {
        let report = Report {
            title: "汉字 → numbers".to_owned(),
            audit: "\n  pairs   10\n  words  123\n".to_owned(),
            samples: vec![Sample {
                source: "一千零五".to_owned(),
                reference: "one thousand five".to_owned(),
                hypothesis: "one thousand five".to_owned(),
            }],
            ..Report::default()
        };
        let page = report.to_html();
        assert!(page.contains("<title>汉字 → numbers</title>"));
        assert!(page.contains("<code>  pairs   10\n  words  123</code>"));
        assert!(page.contains("一千零五") && page.contains("class=\"same\""));
        assert!(!page.contains("<h2>Filters</h2>") && !page.contains("<h2>Curves</h2>"));
    }
}
