"""More words for the slots of sentences by hand: names, places and things of the world outside the generator.

The generator's own lists (`words`) stay as they are, so that what is measured with a seed stays what it was.
"""

# ruff: noqa: SIM905 - a list of words reads better as a text

GIVEN_NAMES = (
    "Abdul Ada Agnes Aisha Alan Albert Alejandro Alma Amanda Amina Andrea Andrew Angela Anton Antonio Arjun Arthur "
    "Aurelia Axel Barbara Barnaby Beatrice Benedict Bernard Beth Birgit Boris Brenda Brigitte Camilla Caroline "
    "Catherine Cecil Chantal Charles Chloe Christina Claudia Clive Colin Conrad Cordelia Cosmo Curtis Cyril Daisy "
    "Daniel Daphne Deborah Dennis Derek Desmond Dmitri Dominic Doreen Dorothy Duncan Edith Edmund Edna Edwin Eileen "
    "Eleanor Elisabeth Ellen Elliot Elsa Emil Emily Eric Erika Ernest Esther Ethel Eugene Eva Evelyn Fatima Felicity "
    "Felix Ferdinand Flora Florence Francis Freda Frederick Gabriel Gareth Gavin Geoffrey Gerald Gertrude Gilbert "
    "Giles Gladys Gloria Gordon Grace Graham Gregory Gustav Gwen Harold Harriet Harry Hazel Heather Hector Heidi "
    "Helen Herbert Hilda Horace Howard Hubert Ida Ignatius Imogen Irene Iris Isaac Isabel Ivy Jack Jacob James Jane "
    "Janet Jasper Jean Jennifer Jeremy Jessica Joan Joanna John Josef Joyce Judith Justin Karim Karl Kate Keith "
    "Kenneth Kevin Kirsten Klaus Kofi Laura Laurence Leila Leonard Leopold Leslie Lewis Lilian Linda Lionel Lorenzo "
    "Louis Louisa Lucas Lucy Ludwig Luigi Luke Lydia Mabel Magda Malcolm Marcus Margaret Marion Mario Marjorie Mark "
    "Marta Matilda Matthew Maud Maurice Max Maxine Meera Melissa Michael Mildred Miriam Mohammed Molly Monica Morgan "
    "Muriel Nancy Natasha Neil Nelson Nicholas Nicola Nigel Noel Norman Oliver Olive Oswald Owen Pamela Patrick Paul "
    "Pauline Pearl Penelope Percy Philip Philippa Phoebe Phyllis Polly Rachel Ralph Raymond Rebecca Reginald Rhoda "
    "Richard Rita Robert Robin Roger Roland Rosalind Rosemary Roy Rudolf Rufus Rupert Ruby Russell Sally Samuel "
    "Sandra Sarah Sebastian Selma Sheila Shirley Sidney Silvia Solveig Stanley Stella Stephen Stuart Susan Sybil "
    "Sylvester Tanya Teresa Thelma Theodore Thomas Tilda Timothy Toby Tristan Valentina Valerie Vanessa Vernon "
    "Veronica Vincent Viola Violet Virgil Vivian Wallace Warren Wilfred William Winifred Yasmin Yvonne"
).split()
SURNAMES = (
    "Abbott Adeyemi Alvarez Andersen Archer Atkins Bailey Banerjee Barker Becker Bennett Berg Bianchi Blackwood Bose "
    "Bradley Brandt Brennan Brooks Burton Campbell Carter Castle Chandler Chen Clarke Coleman Costa Craig Crawford "
    "Cross Dalton Davies Dawson Delgado Dixon Dubois Duncan Eklund Ellis Evans Farrell Ferrari Fischer Fletcher "
    "Foster Fowler Fraser Garcia Gibson Gilbert Goldberg Grant Greene Griffin Haas Hansen Harris Harvey Hayes "
    "Hoffmann Holt Hopkins Hughes Hussain Ibrahim Jansen Jenkins Johansson Jordan Kapoor Keller Kelly Khan Kowalski "
    "Kruger Lambert Larsen Lawson Lee Lehmann Lindgren Lloyd Lopez Lowe MacLeod Marsh Mason Mensah Meyer Miller "
    "Moreau Morris Murphy Murray Nakamura Nash Nielsen Novak Nowak Obi Okafor Olsen Osborne Palmer Park Parsons "
    "Patel Pearson Pereira Petrov Pritchard Quinn Ramsay Reid Reynolds Richter Rossi Russo Sanchez Sato Schmidt "
    "Schneider Shah Shaw Silva Simmons Singh Sokolov Spencer Stone Sutton Suzuki Tanaka Thorne Torres Tucker Turner "
    "Vance Vogel Wagner Walsh Ward Watts Weber Webster Wells West Whitaker Wilson Winter Wong Wright Yamamoto Young "
    "Ziegler"
).split()
STYLES = ("Mr Mrs Ms Miss Dr Professor Uncle Aunt Auntie Cousin Granny Grandpa Nurse Pastor Inspector Old").split()
TOWNS = (
    "Aberdeen|Accra|Aix|Alicante|Amsterdam|Antwerp|Athens|Auckland|Baltimore|Bangkok|Barcelona|Basel|Bath|Belfast|"
    "Bergen|Berlin|Bern|Bilbao|Birmingham|Bologna|Bombay|Bonn|Bordeaux|Boston|Bremen|Brighton|Bristol|Brno|Bruges|"
    "Brussels|Bucharest|Budapest|Buenos Aires|Cairo|Calais|Calgary|Cambridge|Cardiff|Chester|Chicago|Cologne|"
    "Copenhagen|Cork|Cracow|Dakar|Dallas|Delhi|Denver|Derby|Dover|Dresden|Dublin|Dundee|Durham|Edinburgh|Exeter|"
    "Florence|Frankfurt|Galway|Geneva|Genoa|Ghent|Glasgow|Granada|Graz|Halifax|Hamburg|Hanover|Havana|Heidelberg|"
    "Helsinki|Hull|Innsbruck|Inverness|Istanbul|Jakarta|Jena|Kiel|Kyoto|Lagos|Lancaster|Leeds|Leicester|Leipzig|Lima|"
    "Limerick|Lisbon|Liverpool|Ljubljana|London|Lucerne|Lyon|Madrid|Malmo|Manchester|Manila|Marseille|Melbourne|"
    "Milan|Montreal|Moscow|Munich|Nairobi|Nantes|Naples|New York|Newcastle|Nice|Norwich|Nottingham|Oslo|Ottawa|"
    "Oxford|Padua|Palermo|Paris|Perth|Pisa|Plymouth|Porto|Potsdam|Prague|Quebec|Reading|Riga|Rome|Rotterdam|Rouen|"
    "Salamanca|Salzburg|San Francisco|Santiago|Seattle|Seoul|Seville|Sheffield|Sofia|Stockholm|Strasbourg|Stuttgart|"
    "Sydney|Tallinn|Tokyo|Toronto|Toulouse|Trieste|Trondheim|Tunis|Turin|Uppsala|Utrecht|Valencia|Vancouver|Venice|"
    "Verona|Vienna|Warsaw|Wellington|Winchester|York|Zagreb|Zurich|Brazil|Canada|Cornwall|Denmark|Egypt|Finland|"
    "Greece|Iceland|India|Ireland|Italy|Japan|Kent|Kenya|Mexico|Norway|Peru|Poland|Portugal|Scotland|Spain|Sweden|"
    "Turkey|Wales"
).split("|")
FOODS = (
    "asparagus bacon bananas beetroot biscuits blackberries broccoli butter cauliflower celery chestnuts chips "
    "chutney cinnamon coconut couscous crab crisps cucumber custard duck eggs fennel garlic goulash grapes gravy ham "
    "hummus jam kale ketchup lamb leeks lettuce lobster macaroni marmalade mayonnaise melon milk mint muesli mustard "
    "nuts oats oranges parsley pastries peaches peanuts peas pepper pineapple pizza popcorn pork prawns pretzels "
    "pumpkin quiche radishes raisins ravioli rhubarb rye salmon salt sauerkraut scones seaweed shrimps spaghetti "
    "spinach sprouts squid steak stew strawberries sugar syrup toast tofu trout tuna turkey turnips vanilla veal "
    "vinegar waffles watercress yoghurt"
).split()
ANIMALS = (
    "badger beagle beetle budgie bull butterfly calf camel canary carp caterpillar chicken chinchilla cobra cockatoo "
    "crab crow deer dove duckling eagle eel falcon ferret finch frog gecko goldfish gorilla greyhound hawk heron "
    "iguana jackdaw kingfisher kitten labrador lamb lizard llama lobster magpie mole moth mule newt otter ox panda "
    "peacock penguin pheasant pigeon poodle puppy raven robin rooster salmon seal snail snake sparrow spaniel spider "
    "squirrel stork swallow swan tiger toad trout turkey wasp weasel whale wolf woodpecker"
).split()
JOBS = (
    "accountant astronomer beekeeper biologist bookseller bricklayer builder busker cameraman cashier caretaker "
    "chauffeur cleaner coach conductor consultant courier curator designer detective diplomat driver editor "
    "electrician firefighter florist gamekeeper goldsmith guard guide hairdresser historian inspector interpreter "
    "janitor jeweller jockey journalist joiner locksmith manager mechanic midwife miller minister model notary "
    "optician paramedic pharmacist photographer physiotherapist poet porter postman priest professor programmer "
    "psychologist receptionist referee reporter roofer salesman sculptor secretary shopkeeper steward stonemason "
    "surgeon tiler undertaker upholsterer vet violinist waiter waitress warden welder zookeeper"
).split()
COLORS = (
    "amber beige brown burgundy cream crimson lilac khaki magenta maroon mauve mustard navy ochre olive pale peach "
    "plum ruby salmon sandy scarlet tan turquoise violet"
).split()
KIN = (
    "best friend|brother-in-law|daughter-in-law|father-in-law|flatmate|former boss|girlfriend|boyfriend|godfather|"
    "godmother|granddaughter|grandson|great-aunt|great-uncle|half-brother|mother-in-law|nephew|niece|oldest friend|"
    "partner|sister-in-law|stepfather|stepmother|stepson|twin brother|younger sister|elder brother|goddaughter|aunt|"
    "uncle|cousin|dad|mum|grandma|grandpa|accountant|tutor|neighbour|vet|tenant|colleague|trainer"
).split("|")
OBJECTS = (
    "alarm clock|apron|armchair|axe|backpack|balloon|bathtub|birdcage|blender|bookcase|bow tie|bracelet|briefcase|"
    "cable|calculator|calendar|candlestick|cardigan|charger|chessboard|clarinet|coffee machine|cookbook|cot|crutch|"
    "cushion|deckchair|dishwasher|doormat|dress|earring|envelope|extension lead|fan|filing cabinet|first-aid kit|"
    "flag|flask|fridge|frying pan|garden hose|globe|hairdryer|hammock|handbag|harmonica|heater|helmet|hoover|"
    "ironing board|jacket|jigsaw|jumper|kayak|keyboard|lawnmower|lighter|lunch box|magnet|mattress|microphone|"
    "microwave|mobile phone|motorbike|nutcracker|oar|overcoat|paddle|paintbrush|pair of scissors|pencil case|"
    "penknife|phone charger|picnic rug|plaster|playpen|pocket watch|printer|projector|pushchair|racket|raincoat|"
    "razor|remote control|rocking chair|rucksack|sandal|screwdriver|sewing machine|shawl|shower curtain|skateboard|"
    "sledge|sleeping bag|slipper|sofa|spanner|stapler|stepladder|suit|surfboard|sweater|tablecloth|tape measure|"
    "teacup|tent|thermometer|tie|toaster|toolbox|toothbrush|torch|towel|tripod|trolley|T-shirt|ukulele|"
    "vacuum cleaner|van|waistcoat|walking stick|wheelchair|whistle|wig"
).split("|")
