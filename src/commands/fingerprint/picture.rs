//! Draws a trace: the z of all customers, and the line of accusation.

use onnxseal_fingerprint::Traced;

/// The area of the diagram: left, right, top and bottom.
const AREA: [f64; 4] = [56.0, 776.0, 56.0, 372.0];

/// The most names of accused customers.
const MAX_NAMES: usize = 12;

/// Colours follow the reader's light or dark scheme.
const HEAD: &str = r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 420" width="800" height="420" role="img" font-family="system-ui, Helvetica, Arial, sans-serif" font-size="13">
<style>.page{fill:#fff}.text{fill:#1f2328}.soft{fill:#57606a}.rule{stroke:#c4ccd6}.dots{stroke:#57606a}.hot{stroke:#b54708}.name{fill:#b54708}.dots,.found{fill:none;stroke-linecap:round;stroke-width:6}@media(prefers-color-scheme:dark){.page{fill:#0d1117}.text{fill:#f0f6fc}.soft{fill:#9aa4b0}.rule{stroke:#3d444d}.dots{stroke:#9aa4b0}.hot{stroke:#f0883e}.name{fill:#f0883e}}</style>
<rect class="page" width="800" height="420"/>
"#;

/// Draws customers from left to right by descending z.
pub fn svg(traced: &Traced) -> String {
    let [left, right, top, bottom] = AREA;
    let all = || traced.suspects.iter().map(|suspect| suspect.z);
    let most = 1.1 * all().fold(traced.threshold, f64::max);
    let least = 1.1 * all().fold(-2.0, f64::min);
    let at_y = |z: f64| bottom - (z - least) / (most - least) * (bottom - top);
    let text = |class: &str, x: f64, y: f64, end: &str, text: &str| {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        format!(
            "<text class=\"{class}\" x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{end}\">{text}</text>\n"
        )
    };
    let line = |class: &str, z: f64| {
        format!(
            "<path class=\"{class}\" d=\"M{left} {0:.1}H{right}\"/>\n",
            at_y(z)
        )
    };
    let n = traced.suspects.len();
    let title = format!("z of {n} customers, from the highest to the lowest");
    let mut out = format!("{HEAD}<title>{title}</title>\n");
    out += &text("text", left, 28.0, "start", &title);
    for z in [0.0, all().fold(0.0, f64::max)] {
        out += &line("rule", z);
        out += &text("soft", left - 8.0, at_y(z) + 4.0, "end", &format!("{z:.1}"));
    }
    out += &line("hot", traced.threshold);
    let limit = format!("accused from {:.2} on", traced.threshold);
    out += &text("name", right, at_y(traced.threshold) - 6.0, "end", &limit);
    let (mut dots, mut found, mut last, mut below) =
        (String::new(), String::new(), String::new(), top);
    for (i, suspect) in traced.suspects.iter().enumerate() {
        let x = left + (i as f64 + 0.5) / n as f64 * (right - left);
        let dot = format!("M{x:.0} {:.0}h0", at_y(suspect.z));
        match suspect.accused {
            true => found += &dot,
            // Many customers share a dot.
            false if dot != last => dots += &dot,
            false => {}
        }
        if suspect.accused && i < MAX_NAMES {
            let y = below.max(at_y(suspect.z) + 4.0);
            below = y + 15.0;
            out += &text("name", x + 10.0, y, "start", &suspect.customer);
        }
        last = dot;
    }
    out += &format!(
        "<path class=\"dots\" d=\"{dots}\"/>\n<path class=\"found hot\" d=\"{found}\"/>\n"
    );
    out + &text("soft", left, 400.0, "start", "customers") + "</svg>\n"
}
