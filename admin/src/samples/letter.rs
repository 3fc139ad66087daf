//! A business letter: addresses, dates, amounts and a table without lines.

use super::pdf::{Face, MARGIN, PAGE_WIDTH, Page, Pdf};

const SENDER: [&str; 3] = ["Miller & Daughters", "Am Mühlgraben 7", "12555 Berlin"];
const RECIPIENT: [&str; 3] = ["Café Amélie", "12 rue des Écluses", "75010 Paris"];

const OPENING: &str = "Thank you for your order of 14 February 2026. We are glad to confirm it as follows. The chairs are ready, the \
    tables follow from the workshop in the first week of March. Everything will leave our house on 9 March 2026 and should reach \
    you by 12 March 2026 at the latest.";
const CLOSING: &str = "Please pay the total within thirty days, that is by 11 April 2026, to the account named below. If you pay before \
    20 March 2026 you may deduct two per cent, which is 24.49 €. Should anything arrive damaged, tell us within seven days and send \
    a picture; we shall replace it without further questions.";

/// Number, what, amount.
const ITEMS: [(&str, &str, &str); 5] = [
    ("2", "Oak table A-1021 at 249.00 EUR", "498.00 EUR"),
    ("8", "Beech chair A-1044 at 79.50 EUR", "636.00 EUR"),
    ("1", "Pendant lamp B-2077 at 138.00 EUR", "138.00 EUR"),
    ("", "Less the agreed discount", "-47.50 EUR"),
    ("", "Total, value added tax included", "1,224.50 EUR"),
];

pub(super) fn document() -> Vec<u8> {
    let mut pdf = Pdf::default();
    pdf.page(page());
    pdf.finish("Order confirmation 2026-0217")
}

fn page() -> Page {
    let mut page = Page::default();
    let width = PAGE_WIDTH - 2.0 * MARGIN;
    let mut y = 770.0;
    for line in SENDER {
        page.line_to((PAGE_WIDTH - MARGIN, y), (Face::Regular, 10.0), line);
        y -= 14.0;
    }
    y -= 10.0;
    for line in RECIPIENT {
        page.line((MARGIN, y), (Face::Regular, 11.0), line);
        y -= 15.0;
    }
    page.line_to((PAGE_WIDTH - MARGIN, y - 20.0), (Face::Regular, 11.0), "Berlin, 17 February 2026");
    page.line((MARGIN, y - 56.0), (Face::Bold, 12.0), "Order confirmation 2026-0217");
    page.line((MARGIN, y - 84.0), (Face::Regular, 11.0), "Dear Ms Duval,");
    y = page.paragraph((MARGIN, y - 106.0), width, 11.0, OPENING) - 12.0;
    y = items(&mut page, y) - 12.0;
    y = page.paragraph((MARGIN, y), width, 11.0, CLOSING) - 12.0;
    page.line((MARGIN, y), (Face::Regular, 11.0), "Yours sincerely,");
    page.line((MARGIN, y - 40.0), (Face::Regular, 11.0), "Johanna Miller");
    page.rule(74.0);
    page.line(
        (MARGIN, MARGIN),
        (Face::Regular, 8.5),
        "IBAN DE00 0000 0000 0000 0000 00 – orders@miller-daughters.example – +49 30 5550 1021",
    );
    page
}

fn items(page: &mut Page, mut y: f32) -> f32 {
    for (number, what, amount) in ITEMS {
        let face = if what.starts_with("Total") { Face::Bold } else { Face::Regular };
        page.line((MARGIN, y), (face, 11.0), number);
        page.line((MARGIN + 30.0, y), (face, 11.0), what);
        page.line_to((PAGE_WIDTH - MARGIN, y), (face, 11.0), amount);
        y -= 17.0;
    }
    y
}
