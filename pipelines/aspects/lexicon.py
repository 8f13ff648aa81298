"""Word lists of the aspect rules: nouns that are never aspects, and opinion words that the packages lack.

Trade-off: short lists, written while reading reviews of several categories, instead of a learned model; each decision
can be traced to a word.
"""

GENERIC_NOUNS = frozenset("""
    ability accessory addition advice afternoon age aim alternative alternatives amazon amount answer anyone
    anything apartment applications approach area array article aspect assortment attention baby band bang bargain
    basement basis beat bedroom beginner bet bit bits bonus books bottom bout boy brand brands brother buck bucks
    bunch business buy buyer buying cant care case cause chance channel-strip check child children choice choices
    christmas church class cloth co college com combination combo comment companies company competition complaint
    complaints compromise computer con concept concern condition conditions conjunction cons control country
    couple course crap customer customers dad date daughter day days deal dealer decade decision description desk
    detail details device devices difference differences difficulty dollar dollars doubt duty ear ears edit effort
    end ends environment error evening everybody everyone everything example exception expectation expectations
    experience expert eye eyes fact family fan father favor favorite feature features feedback feeling fellow few
    firm fit floor folk folks foot friend friends fun future gadget gadgets garage gift gig gigs girl girlfriend
    go god grade granddaughter grandson group guess guy guys habit half hand hands harp harps head heads heck hell
    help here hint hit hobby hope hour hours house husband idea ideas imho improvement inch inches info
    information instance instrument instruments interest internet investment issue issues item items job joke junk
    keeper kick kid kids kind kinds kit lady laptop latter led lesson lessons level life line link list lot lots
    love luck majority man manner market marks matter mention mess mike min mind mine minute minutes miss mistake
    model models mom moment money month months morning mother move must need needs night nobody none notch nothing
    notice number one ones operation opinion option options order other others pack package packages pair part
    parts party past people percent performance-wise person pick-up piece pieces place places plan player players
    plus point points portion positions possibility practice present pro problem problems process product products
    professional project pros purchase purchases purpose purposes question questions range rate rating reach
    reason reasons recommendation recommendations recording recordings regrets rehearsal release replacement
    reputation research rest result results return review reviewer reviewers reviews risk rock room sale school
    search second seconds selection seller sense series service set shame shop side situation skill skills
    solution solutions somebody someone something son song songs sort sorts specs spot spots stages standard star
    stars start state steal step stick stop store stores story student students stuff style styles summer surprise
    table tag talk task teacher technique term terms test thank thanks thing things thought thoughts thumb thumbs
    time times today tomorrow ton tons tool tools top total touch town toy travel trick tricks trip trouble truth
    try turn type types understanding unit units update upgrade upgrades us usage use user users uses variety
    vendor venue venues version versions video view voice wall want water way ways web website week weekend weeks
    while wife wife's win winner wish woman wonder word words work world worry worth year years yesterday youtube
    """.split())  # fmt: skip  # noqa: SIM905
"""Nouns about people, places, time, buying or reviewing, or that denote no part or property of an item."""

OPINIONS = {
    "accurate": 0.5, "adequate": 0.3, "adjustable": 0.3, "affordable": 0.5, "ample": 0.4, "authentic": 0.4,
    "badly": -0.6, "big": 0.1, "bright": 0.3, "brittle": -0.5, "bulky": -0.3, "cheap": -0.2, "cheaply": -0.5,
    "clean": 0.4, "clear": 0.4, "compact": 0.3, "consistent": 0.4, "convenient": 0.5, "crappy": -0.7, "crisp": 0.4,
    "decent": 0.4, "defective": -0.7, "dependable": 0.5, "dull": -0.3, "durable": 0.5, "easily": 0.4, "fine": 0.3,
    "flawless": 0.8, "flawlessly": 0.8, "flimsy": -0.6, "fragile": -0.4, "hard": -0.1, "harsh": -0.4,
    "heavy-duty": 0.5, "hefty": 0.2, "high": 0.1, "high-quality": 0.6, "huge": 0.2, "impeccable": 0.8,
    "inexpensive": 0.4, "intuitive": 0.5, "large": 0.1, "lightweight": 0.3, "long-lasting": 0.5, "loud": 0.2,
    "low": -0.1, "muddy": -0.5, "nicely": 0.5, "noisy": -0.5, "ok": 0.2, "okay": 0.2, "overpriced": -0.6,
    "perfect": 0.9, "playable": 0.4, "plenty": 0.3, "poorly": -0.6, "pricey": -0.4, "pristine": 0.6, "properly": 0.3,
    "quick": 0.3, "quiet": 0.3, "readable": 0.4, "reasonable": 0.4, "reliable": 0.6, "responsive": 0.5, "rough": -0.3,
    "rugged": 0.5, "scratchy": -0.5, "securely": 0.4, "sharp": 0.2, "shiny": 0.2, "short": -0.1, "simple": 0.3,
    "sleek": 0.4, "sloppy": -0.5, "small": -0.1, "smooth": 0.5, "smoothly": 0.5, "snug": 0.4, "snugly": 0.4,
    "soft": 0.2, "solid": 0.5, "solidly": 0.5, "stable": 0.4, "stiff": -0.2, "sturdy": 0.6, "thick": 0.1,
    "thin": -0.2, "tight": 0.1, "tinny": -0.5, "tiny": -0.2, "top-notch": 0.8, "uncomfortable": -0.5,
    "unreliable": -0.6, "versatile": 0.5, "warm": 0.3, "well": 0.5, "well-made": 0.6, "wobbly": -0.5,
}  # fmt: skip
"""Opinion words of product reviews and their polarity, -1 to 1; they override the packaged lexicons."""

NOT_OPINIONS = frozenset("""
    able acoustic actual additional alone available care certain classic complete convinced correct current
    definitely different dynamic electric entire even exact first free full general grand helpful higher honestly
    hot important interested just last later like little main many matter mere more most much new next no normal
    old only original other own particular played playing please possible present pretty previous proprietary
    ready real regular right same second seriously several similar special specific standard still super sure
    surely thank thanks third total true truly typical usual valued various vintage whole worth yes
    """.split())  # fmt: skip  # noqa: SIM905
"""Adjectives and adverbs that the lexicons score but that express no opinion."""

COPULAS = frozenset("""
    's are aren't be been being came come comes doesn't don't feel feels felt fit fits fitted function functioned
    functions get gets go goes got had handle handles has have held hold holds is isn't last lasts look looked
    looks move moves operate operates perform performed performs play plays remain remains ring rings seem seemed
    seems slide slides sound sounded sounds stay stayed stays turn turns was wasn't went were weren't work worked
    works
    """.split())  # fmt: skip  # noqa: SIM905
"""Verbs that link a following adjective or adverb to the preceding noun."""

FEELING_VERBS = {
    "adore": 0.8, "appreciate": 0.5, "dig": 0.5, "dislike": -0.6, "disliked": -0.6, "enjoy": 0.5, "enjoyed": 0.5,
    "hate": -0.8, "hated": -0.8, "lack": -0.4, "lacking": -0.4, "lacks": -0.4, "like": 0.5, "liked": 0.5, "likes": 0.5,
    "love": 0.8, "loved": 0.8, "loves": 0.8, "prefer": 0.4, "recommend": 0.4,
}  # fmt: skip
"""Verbs whose object is evaluated by the writer."""

FEELING_ADJECTIVES = {
    "amazed": 0.6, "annoyed": -0.5, "delighted": 0.7, "disappointed": -0.6, "dissatisfied": -0.6, "happy": 0.6,
    "impressed": 0.6, "pleased": 0.6, "satisfied": 0.5, "thrilled": 0.7, "unhappy": -0.6, "unimpressed": -0.5,
}  # fmt: skip
"""Adjectives that evaluate what follows with, by, in or about."""

NOUN_VERBS = {
    "bends": -0.3, "break": -0.5, "breaks": -0.6, "broke": -0.6, "buzzes": -0.4, "cracked": -0.5, "crackles": -0.4,
    "died": -0.6, "excels": 0.6, "fades": -0.3, "failed": -0.6, "fails": -0.6, "hums": -0.4, "improved": 0.4,
    "loosens": -0.4, "peeled": -0.4, "rattled": -0.5, "rattles": -0.5, "rocks": 0.6, "rusted": -0.4, "scratches": -0.4,
    "shines": 0.5, "slipped": -0.4, "slips": -0.4, "snapped": -0.5, "stinks": -0.6, "sucks": -0.7, "wobbles": -0.4,
}  # fmt: skip
"""Verbs that evaluate their subject."""

NEGATIONS = frozenset("""
    aren't barely can't cannot couldn't didn't doesn't don't hardly isn't lack lacks neither never no none nor not
    nothing wasn't weren't without won't wouldn't
    """.split())  # fmt: skip  # noqa: SIM905
"""Words that negate the polarity of an opinion up to four words later."""
