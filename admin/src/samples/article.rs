//! An article in two columns with broken words: what reading order and de-hyphenation are for.

use super::pdf::{Face, MARGIN, PAGE_HEIGHT, PAGE_WIDTH, Page, Pdf};

/// Between the columns.
const GUTTER: f32 = 24.0;
const SIZE: f32 = 10.0;
const COLUMN: f32 = (PAGE_WIDTH - 2.0 * MARGIN - GUTTER) / 2.0;

/// A heading, or "" for none, and a paragraph. Columns begin with a heading inside the text: poppler takes two on one line
/// for one, and reads it before both columns.
/// A soft hyphen (`\u{ad}`) marks where a word may be broken.
const LEFT_FIRST: [(&str, &str); 3] = [
    (
        "",
        "Where the water comes from. A mill begins long before the wheel. Some\u{ad}where up the valley a weir raises the stream by the height of a man, and a \
         channel leads a part of it along the slope, nearly level, while the stream itself falls away beside it. When the channel \
         reaches the mill, the water in it stands several metres above the stream, and this dif\u{ad}ference is all that the miller \
         has to work with. It does not depend on the wind, and only slowly on the weather. A pond above the mill makes it more \
         de\u{ad}pend\u{ad}able still: it fills in the night and is used up by day, so that a small stream can drive a large wheel for a \
         few hours.",
    ),
    (
        "The wheel",
        "An under\u{ad}shot wheel hangs in the current and takes what the current gives, seldom more than a third of it. An over\u{ad}shot \
         wheel is fed from above. Its buckets fill, sink by their own weight and empty at the bottom; of the power in the falling \
         water it takes four fifths. In 1759 John Smeaton reported on ex\u{ad}per\u{ad}i\u{ad}ments with models of both, the first that were \
         measured with care, and within a gen\u{ad}er\u{ad}a\u{ad}tion most mills that had the fall for it were rebuilt.",
    ),
    (
        "",
        "The wheel turns slowly, six or eight times a minute. A pair of gears makes that a hundred and twenty for the stone. Their teeth \
         are of wood, hornbeam as a rule, and that is done on purpose: when some\u{ad}thing jams, a tooth breaks that can be replaced \
         in an hour, and the shaft, which can not, is spared.",
    ),
];
const RIGHT_FIRST: [(&str, &str); 3] = [
    (
        "",
        "The stones. Two stones lie upon each other and never touch. The lower one is fixed; the upper one, the runner, weighs as much as a horse \
         and turns above it at the distance of a sheet of paper. Grain falls through the eye in the middle, is cut along the furrows \
         and leaves at the rim as meal. The dis\u{ad}tance is the art of it. If it is too wide the grain is only cracked; if it is too \
         narrow the flour is burnt, and the miller smells it before he sees it. He keeps a thumb in the stream of meal, and \
         with the other hand he raises or lowers the runner by a hair.",
    ),
    (
        "The bell",
        "Stones that run empty strike sparks, and flour dust burns like powder. So a small bell hangs in the hopper, held up by the weight \
         of the grain. When the hop\u{ad}per is nearly empty the bell drops onto the turning spindle and rings until somebody comes. It is \
         one of the oldest alarms that a machine gives about itself, and it still has what every alarm should have: it can not be over\u{ad}heard, \
         it means one thing only, and there is some\u{ad}thing to be done about it at once.",
    ),
    (
        "",
        "A mill has no other memory than its sacks. Each carries the mark of the farmer who brought it, and no sack leaves before the \
         tally says that as many have come down as went up.",
    ),
];
const LEFT_SECOND: [(&str, &str); 2] = [
    (
        "",
        "The order of the day. Whoever came first was served first; that was law in many places, and the miller who broke it paid a fine. There were ex\u{ad}cep\u{ad}tions, \
         and they were written on the door. The baker of the village might go ahead of the farmers on two days of the week, because people \
         waited for his bread. Seed corn was never ground. And who had waited for a day and a night could take his grain to an\u{ad}other \
         mill, whatever the lord of this one said.",
    ),
    (
        "When the water fails",
        "In a dry summer or a hard winter the wheel stands. A careful miller then grinds with a horse, slowly, only for those who have no \
         flour left, and writes down what he owes to the others. When the water comes back he does not start with the newest sack.",
    ),
];
const RIGHT_SECOND: [(&str, &str); 2] = [
    (
        "",
        "What remains. Of the mills that were working in Europe around 1850, some hundreds of thousands, few turn today. The weirs remain, and in many of \
         them a turbine not much larger than a barrel makes elec\u{ad}tric\u{ad}ity out of the same fall. The rules remain too, in places where no \
         one would look for them: first come, first served, with ex\u{ad}cep\u{ad}tions on the door; no stone without grain; count what comes \
         in and what goes out.",
    ),
    (
        "",
        "A visitor who stands in one of the last of them while it is running is told to put a hand on the beam. It hums. The miller, asked how he \
         knows that all is well, says that he does not listen for any\u{ad}thing. He would wake up, he says, if it stopped.",
    ),
];

pub(super) fn document() -> Vec<u8> {
    let mut pdf = Pdf::default();
    let mut first = Page::default();
    first.line((MARGIN, PAGE_HEIGHT - MARGIN - 18.0), (Face::Bold, 24.0), "What a mill knows");
    first.line((MARGIN, PAGE_HEIGHT - MARGIN - 38.0), (Face::Regular, 11.0), "On water, stones, and the order of work");
    columns(&mut first, PAGE_HEIGHT - MARGIN - 72.0, &LEFT_FIRST, &RIGHT_FIRST);
    pdf.page(first);
    let mut second = Page::default();
    columns(&mut second, PAGE_HEIGHT - MARGIN - 10.0, &LEFT_SECOND, &RIGHT_SECOND);
    pdf.page(second);
    pdf.finish("What a mill knows")
}

fn columns(page: &mut Page, top: f32, left: &[(&str, &str)], right: &[(&str, &str)]) {
    for (x, paragraphs) in [(MARGIN, left), (MARGIN + COLUMN + GUTTER, right)] {
        let mut y = top;
        for (heading, text) in paragraphs {
            if !heading.is_empty() {
                page.line((x, y), (Face::Bold, 12.0), heading);
                y -= 17.0;
            }
            y = page.paragraph((x, y), COLUMN, SIZE, text) - 9.0;
        }
    }
}
