"""Word lists of the fact world: what things, places, people and values may be called."""

# ruff: noqa: SIM905 - a list of words reads better as a text

ADJECTIVES = (
    "red blue green yellow black white grey purple orange pink golden silver wooden iron glass paper leather cotton "
    "small large tiny huge old new broken heavy light round square narrow wide tall short dark bright dusty shiny "
    "cracked faded striped painted carved folded empty hollow soft rough smooth sharp crooked rusty copper marble "
    "velvet plastic cheap antique foreign hidden secret upper lower left right second third northern southern eastern "
    "western"
).split()
THINGS = (
    "key lamp table chair box drawer cupboard shelf basket bottle cup plate spoon knife hammer rope ladder bucket "
    "broom mirror clock watch ring necklace coat hat glove boot scarf umbrella bag suitcase wallet letter book map "
    "diary photo painting candle matchbox lantern violin flute drum piano guitar trumpet bicycle cart boat ship train "
    "car tractor wheel engine pump stove oven kettle teapot jar barrel sack crate trunk carpet curtain pillow blanket "
    "bed door window gate fence bench fountain statue bell anchor compass telescope camera radio computer printer "
    "notebook pencil ruler stamp coin medal trophy doll kite ball marble puzzle flowerpot vase garden tree stone "
    "brick pipe wire chain lock ticket passport receipt recipe contract manuscript parcel envelope newspaper "
    "dictionary album cabinet desk wardrobe stool ladle pan tray jug needle button ribbon saddle whip net hook spade "
    "rake axe saw drill shovel wheelbarrow"
).split()
PLACES = (
    "kitchen cellar attic garage barn stable library office bedroom hallway garden courtyard chapel church school "
    "mill bakery harbour station market museum theatre hospital hotel inn castle tower bridge lighthouse forest "
    "orchard meadow cave island valley farm workshop laboratory warehouse greenhouse studio gallery archive shed "
    "porch balcony pantry"
).split()
ANIMALS = (
    "cat dog horse parrot rabbit goat cow hen duck goose turtle mouse hamster owl fox hedgehog pony donkey sheep pig"
).split()
FOODS = (
    "apples pears plums cherries soup bread cheese honey rice pasta lentils beans mushrooms fish oysters pancakes "
    "dumplings pie cake chocolate almonds walnuts olives onions carrots potatoes tomatoes cabbage pickles ginger tea "
    "coffee cocoa lemonade cider porridge noodles curry salad omelette sausages raspberries figs dates"
).split()
TRADES = (
    "baker carpenter doctor nurse teacher farmer sailor tailor painter writer lawyer judge soldier miner smith cook "
    "gardener engineer pilot librarian musician dentist plumber mason weaver fisherman shepherd clerk banker chemist "
    "actor singer dancer potter printer glazier butcher grocer barber cobbler watchmaker architect translator "
    "surveyor"
).split()
SUBJECTS = (
    "chess history botany geometry drawing music astronomy fencing poetry grammar physics chemistry swimming archery "
    "singing dancing Latin Greek French German Spanish Russian Arabic Japanese Welsh Danish Finnish Turkish Persian"
).split()
FIRST_NAMES = (
    "Anna Ben Clara David Emma Frank Greta Henry Ilse Jonas Karin Leo Maria Nora Oscar Paula Quentin Rosa Simon Tina "
    "Ugo Vera Walter Xenia Yusuf Zoe Alice Bruno Celia Dora Edgar Fiona George Hanna Ivan Julia Kurt Lena Martin Nina "
    "Otto Peter Ruth Sam Tom Ursula Victor Wendy Amir Bella Carlos Diego Elena Farid Gina Hugo Ines Jamal Kenji Lucia "
    "Mei Nadia Omar Priya Ravi Sofia Tariq Uma Wanda Yuki Zara Lars Sven Astrid Bjorn Ingrid Pavel Olga Milan Petra "
    "Janek"
).split()
MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
TITLES = "Mr Mrs Miss Dr Captain Professor Lady Sir Old Judge Sergeant Father".split()
ONSETS = "b bl br c ch cl d dr f fl g gl gr h j k kl kr l m n p pl pr qu r s sh sk sl st str t th tr v w y z".split()
VOWELS = "a e i o u ai ea ee ie oa oo ou y".split()
CODAS = "b ck d f g k l ll m n nd ng nt p r rd rk rn rt s ss st t th x z".split() + [""] * 12
EVENTS = (
    "meeting concert wedding exam party lecture dinner interview appointment match funeral rehearsal auction lesson "
    "picnic festival conference race trial ceremony workshop play breakfast checkup flight tour"
).split()
ROLES = (
    "captain director owner editor manager coach author winner guard president secretary treasurer caretaker chef "
    "conductor driver keeper landlord inventor designer builder head leader chairman founder translator"
).split()
LOCKS = (
    "wifi|laptop|safe|alarm|front door|printer|bank account|email|garage|locker|back "
    "gate|phone|suitcase|computer|vault|bicycle lock|office|account|archive|library|tablet|cottage|cellar|tool "
    "shed|mailbox"
).split("|")
GROUPS = "school club band team ship museum bakery company choir hotel bank theatre hospital newspaper library".split()
PETS = "cat dog horse parrot rabbit goat pony hamster turtle puppy kitten canary donkey goldfish boat car doll".split()
KIN = (
    "sister brother uncle aunt cousin neighbour friend colleague teacher doctor boss grandmother grandfather landlord "
    "nephew niece daughter son roommate dentist mother father wife husband lawyer gardener plumber piano teacher"
).split()
PREPOSITIONS = "in|under|behind|near|next to|on top of|inside|beside|above|below|on".split("|")
POSSESSIVES = "the the a her his their".split()
FAVOURITES = (
    "colour song book film drink flower word number city dessert game sport season animal bird place poem restaurant "
    "beer tree street shop joke singer tea soup fruit car dance planet island teacher language job nickname address "
    "school"
).split()
OPENINGS = [
    "By the way,", "I should mention that", "According to the records,", "Remember that", "Please note that",
    "It is said that", "As everyone knows,", "I heard that", "They told me that", "It turns out that",
    "Someone wrote that", "Note:", "For the record,", "You should know that", "In fact,", "Yesterday I learned that",
    "Do not forget:", "Apparently", "The letter says that", "Listen,", "Well,", "To be clear,", "In those days",
    "As far as I know,", "FYI,",
]  # fmt: skip
CLOSINGS = [
    ", as far as I know", ", or so I was told", ", I believe", ", according to the mayor", ", they say",
    ", of course", ", in case you need it", ", and that is certain", ", at least for now", ", as you may remember",
    " these days",
]  # fmt: skip
