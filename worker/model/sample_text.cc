#include "worker/model/compare_weights.h"

namespace tandem {
namespace {

constexpr char kText[] =
    R"text(The lighthouse keeper had not expected a visitor. For eleven weeks the only voices on
the rock had been the gulls and the small radio that he kept on the shelf above the
stove, and he had fallen into the habit of answering both. When the knock came he
looked first at the radio. Then he put down the pan, wiped his hands on a cloth that
was no cleaner than they were, and went to the door.

The woman who stood there was wet to the knees and carried a leather case under one arm. Behind
her, at the foot of the steps, a boat turned slowly on its rope.

"You are Mr. Halloran," she said. It was not a question. "I have come about the clock."

"There is no clock here," he said. "There is a lamp, and there is the engine that turns it."

"The engine has a clock in it. It was made by my grandfather in the winter of 1908, and it has
lost four seconds since then. I should like to know where they went."

He let her in, because the wind was rising and because nobody had ever said anything of that kind
to him before. She set the case on the table and opened it. Inside, in rows, each in its own bed
of green cloth, lay the smallest tools he had ever seen: files no thicker than a needle, a hammer
that would have suited a mouse, three glasses for the eye. She chose one of the glasses, asked for
tea, and went up the stairs without waiting for it.

How does a clock lose four seconds in a hundred years? Heat makes metal longer and cold makes it
shorter. A pendulum that is longer by the width of a hair swings more slowly, and so a clock in a
warm room runs late. The old makers knew this and built pendulums out of two metals, brass and
steel, arranged so that as one grew downwards the other grew upwards, and the weight at the end
stayed where it was. Oil thickens. Dust settles on the teeth of the wheels. The pull of the moon,
which lifts the whole sea twice a day, also lifts the weight of a clock, though by so little that
it was not measured until the middle of the twentieth century. None of these errors is large, and
most of them cancel; but what does not cancel adds up, and in the end somebody climbs the stairs
with a lamp and a glass and looks for it.

Instructions for the relief crew

1. On arrival, check that the boat is tied at both ends. More boats are lost at the landing than
at sea.
2. Read the log of the last seven days before you touch anything. If a page is missing, write down
that it is missing.
3. Wind the engine every four hours. It takes sixty turns. If it takes more than sixty-five, the
cable has slipped; if it takes fewer than fifty-five, someone has already wound it.
4. The lamp is lit half an hour before sunset and put out half an hour after sunrise. In fog it
stays lit.
5. Fresh water: 400 litres in the upper tank, 250 in the lower. Do not drink from the lower tank.
6. In an emergency, call the harbour on channel 12. If the radio fails, fly the red flag by day,
and by night show three short flashes every minute.

Dear Margaret,

Thank you for the parcel, which came on Tuesday with only one jar broken. The jam is excellent.
You ask whether I am lonely, and I have thought about how to answer. In the first month I was. I
counted the days until the boat would come, and when it came I talked so much that the crew
laughed at me. In the second month I stopped counting. Now it is the third month, and I find that
I do not want the boat to come on Friday at all, although I have run out of coffee and shall
probably be very glad to see it when it does. Does that make sense to you? I think that a person
is like a room: if you leave the door open, it is never quite warm, but it is never quite dark
either.

There was a storm on the ninth. The waves broke over the gallery, forty metres up, and one of the
panes cracked from corner to corner without falling out. I sat on the stairs all night with a
hammer, some boards and a bag of nails, waiting for it to go. In the morning it was still there. I
have drawn a line beside the crack with a pencil, to see whether it grows.

Your brother, who is well,
Thomas

A lighthouse is, among other things, a very slow way of sending numbers. Each light has its own
rhythm, written on the chart beside it: one flash every five seconds, or two flashes and then a
pause of ten, or a long and a short. A sailor who sees a light counts, looks at the chart, and
knows where he is. The code has to be simple enough to be read by someone who is cold, tired and
frightened, from the deck of a ship that will not keep still. That is why no two lights on the
same coast share a rhythm, and why the differences between them are measured in whole seconds. The
following function, in the language Python, says whether two lights could be mistaken for one
another:

def confusable(a, b, tolerance=0.5):
    """True if two lights with periods a and b, in seconds, look the same."""
    if a <= 0 or b <= 0:
        raise ValueError("a period is more than 0 seconds")
    return abs(a - b) <= tolerance

for name, period in sorted(lights.items()):
    print(f"{name:20} {period:5.1f} s")

She came down again after two hours. The tea had gone cold, and she drank it anyway.

"Well?" he said.

"It is not the pendulum," she said. "The pendulum is perfect. It is not the oil, and it is not the
dust, although there is a good deal of dust. Did you know that someone has scratched a date into
the great wheel? The third of March, 1931. And under it, very small, two words."

"What words?"

"'Sorry, Father.'" She closed the glass in her hand. "My father was eleven that year. My
grandfather took him everywhere. I suppose that he stopped the clock, as a boy would, to see what
happened. He counted to four. Then he let it go again, and told nobody, and for the rest of his
life he believed that ships would be lost because of him."

The keeper looked at the window. It was quite dark by then, and the beam went round over the
water, as it had every night, and was not late for anything.

"Shall you put it right?" he asked.

"No," she said. "I think that I shall leave it as it is. It is the only thing of his that I have
which is wrong."

Die Überfahrt dauerte vierzig Minuten. Am nächsten Morgen war das Meer glatt wie ein Spiegel, und
niemand sprach von der Uhr. Le bateau est reparti à midi, avec une caisse vide, trois lettres et
un passager de plus que prévu. Of the 1,204 entries in the log of that year, hers is the shortest:
"Clock examined. 4 s slow. Cause known. No action."
)text";

}  // namespace

absl::string_view SampleText() { return kText; }

}  // namespace tandem
