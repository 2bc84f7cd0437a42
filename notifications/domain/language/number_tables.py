"""The number words of the languages: data only."""

from __future__ import annotations

# Rows end at ";": a language, then its words for 1 to 19, 20 to 90 by tens, 100, 1000 and 1000000, then others as 200=.
# "|" parts the forms of one number, "_" is a space, "-" no word. "*": only after another part of the same number.
NUMBERS = r"""
en one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen twenty thirty forty|fourty fifty sixty seventy eighty ninety hundred thousand million;
de ein|eins zwei|zwo drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn
achtzehn neunzehn zwanzig dreißig|dreissig vierzig fünfzig sechzig siebzig achtzig neunzig hundert tausend
million|*millionen;
fr un|une deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept dix-huit
dix-neuf vingt trente quarante cinquante soixante septante
quatre-vingt|quatre-vingts|quatre_vingt|quatre_vingts|huitante nonante cent|*cents mille million|*millions;
es *uno|*un|*una dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis|dieciseis
diecisiete dieciocho diecinueve veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa cien|ciento mil
millón|*millones 21=veintiuno|veintiún|veintiun|veintiuna 22=veintidós|veintidos 23=veintitrés|veintitres
24=veinticuatro 25=veinticinco 26=veintiséis|veintiseis 27=veintisiete 28=veintiocho 29=veintinueve
200=doscientos|doscientas 300=trescientos|trescientas 400=cuatrocientos|cuatrocientas 500=quinientos|quinientas
600=seiscientos|seiscientas 700=setecientos|setecientas 800=ochocientos|ochocientas 900=novecientos|novecientas;
pt *um|*uma dois|duas três quatro cinco seis sete oito nove dez onze doze treze catorze|quatorze quinze
dezesseis|dezasseis dezessete|dezassete dezoito dezenove|dezanove vinte trinta quarenta cinquenta|cinqüenta sessenta
setenta oitenta noventa cem|cento mil milhão|*milhões 200=duzentos|duzentas 300=trezentos|trezentas
400=quatrocentos|quatrocentas 500=quinhentos|quinhentas 600=seiscentos|seiscentas 700=setecentos|setecentas
800=oitocentos|oitocentas 900=novecentos|novecentas;
it *uno|*un due tre|tré quattro cinque sei sette otto nove dieci undici dodici tredici quattordici quindici sedici
diciassette diciotto diciannove venti|vent(?=[uo]) trenta|trent(?=[uo]) quaranta|quarant(?=[uo])
cinquanta|cinquant(?=[uo]) sessanta|sessant(?=[uo]) settanta|settant(?=[uo]) ottanta|ottant(?=[uo])
novanta|novant(?=[uo]) cento(?!tt)|cent(?=ott) mille milione|*milioni 1000=*mila;
nl een|één twee drie vier vijf zes zeven acht negen tien elf twaalf dertien veertien vijftien zestien zeventien
achttien negentien twintig dertig veertig vijftig zestig zeventig tachtig negentig honderd duizend miljoen;
pl jeden|jedna|jedno dwa|dwie|dwóch|dwu|dwóm|dwom|dwoma|dwiema|dwaj|dwoje|dwojga
trzy|trzech|trzem|trzema|trzej|troje|trojga cztery|czterech|czterem|czterema|czterej|czworo|czworga
pięć|pięciu|pięcioma|pięcioro|pięciorga sześć|sześciu|sześcioma siedem|siedmiu|siedmioma osiem|ośmiu|ośmioma
dziewięć|dziewięciu|dziewięcioma dziesięć|dziesięciu|dziesięcioma jedenaście|jedenastu dwanaście|dwunastu
trzynaście|trzynastu czternaście|czternastu piętnaście|piętnastu szesnaście|szesnastu siedemnaście|siedemnastu
osiemnaście|osiemnastu dziewiętnaście|dziewiętnastu dwadzieścia|dwudziestu trzydzieści|trzydziestu
czterdzieści|czterdziestu pięćdziesiąt|pięćdziesięciu sześćdziesiąt|sześćdziesięciu siedemdziesiąt|siedemdziesięciu
osiemdziesiąt|osiemdziesięciu dziewięćdziesiąt|dziewięćdziesięciu sto|stu tysiąc|tysiąca|*tysiące|*tysięcy|*tysiącom
milion|miliona|*miliony|*milionów 200=dwieście|dwustu 300=trzysta|trzystu 400=czterysta|czterystu
500=pięćset|pięciuset 600=sześćset|sześciuset 700=siedemset|siedmiuset 800=osiemset|ośmiuset
900=dziewięćset|dziewięciuset;
ru один|одна|одно|одну|одного|одной два|две|двух|двум|двумя|двое|двоих три|трех|трем|тремя|трое|троих
четыре|четырех|четырем|четырьмя|четверо|четверых пять|пяти|пятью|пятеро шесть|шести|шестью семь|семи
восемь|восьми|восемью девять|девяти|девятью десять|десяти|десятью одиннадцать|одиннадцати двенадцать|двенадцати
тринадцать|тринадцати четырнадцать|четырнадцати пятнадцать|пятнадцати шестнадцать|шестнадцати семнадцать|семнадцати
восемнадцать|восемнадцати девятнадцать|девятнадцати двадцать|двадцати тридцать|тридцати сорок|сорока
пятьдесят|пятидесяти шестьдесят|шестидесяти семьдесят|семидесяти восемьдесят|восьмидесяти девяносто|девяноста сто|ста
тысяча|тысячу|*тысячи|*тысяч|*тысячам миллион|*миллиона|*миллионов 200=двести|двухсот 300=триста|трехсот
400=четыреста|четырехсот 500=пятьсот|пятисот 600=шестьсот|шестисот 700=семьсот|семисот 800=восемьсот|восьмисот
900=девятьсот|девятисот;
uk один|одна|одне|одну|одного|однієї два|дві|двох|двом|двома|двоє три|трьох|трьом|трьома|троє
чотири|чотирьох|чотирьом|чотирма|четверо п'ять|п'яти|п'ятьох|п'ятьом|п'ятьма|п'ятеро шість|шести|шістьох|шістьом
сім|семи|сімох вісім|восьми|вісьмох дев'ять|дев'яти|дев'ятьох десять|десяти|десятьох одинадцять|одинадцяти
дванадцять|дванадцяти тринадцять|тринадцяти чотирнадцять|чотирнадцяти п'ятнадцять|п'ятнадцяти шістнадцять|шістнадцяти
сімнадцять|сімнадцяти вісімнадцять|вісімнадцяти дев'ятнадцять|дев'ятнадцяти двадцять|двадцяти тридцять|тридцяти
сорок|сорока п'ятдесят|п'ятдесяти шістдесят|шістдесяти сімдесят|сімдесяти вісімдесят|вісімдесяти дев'яносто|дев'яноста
сто|ста тисяча|тисячу|*тисячі|*тисяч мільйон|*мільйони|*мільйона|*мільйонів 200=двісті|двохсот 300=триста|трьохсот
400=чотириста|чотирьохсот 500=п'ятсот|п'ятисот 600=шістсот|шестисот 700=сімсот|семисот 800=вісімсот|восьмисот
900=дев'ятсот|дев'ятисот;
cs jeden|jedna|jedno|jednu dva|dvě|dvou|dvěma tři|tří|třem|třech|třemi čtyři|čtyř|čtyřem|čtyřech|čtyřmi pět|pěti
šest|šesti sedm|sedmi osm|osmi devět|devíti deset|deseti|desíti jedenáct|jedenácti dvanáct|dvanácti třináct|třinácti
čtrnáct|čtrnácti patnáct|patnácti šestnáct|šestnácti sedmnáct|sedmnácti osmnáct|osmnácti devatenáct|devatenácti
dvacet|dvaceti třicet|třiceti čtyřicet|čtyřiceti padesát|padesáti šedesát|šedesáti sedmdesát|sedmdesáti
osmdesát|osmdesáti devadesát|devadesáti sto|*sta|*stě|*set tisíc|*tisíce|*tisíci milion|*miliony|*milionů
21=jednadvacet 31=jednatřicet 41=jednačtyřicet;
tr bir iki üç dört beş altı yedi sekiz dokuz on - - - - - - - - - yirmi otuz kırk elli altmış yetmiş seksen doksan yüz
bin milyon;
sv en|ett två tre fyra fem sex sju åtta nio tio elva tolv tretton fjorton femton sexton sjutton arton nitton tjugo
trettio fyrtio femtio sextio sjuttio åttio nittio hundra tusen miljon|*miljoner;
da en|et to tre fire fem seks syv otte ni ti elleve tolv tretten fjorten femten seksten sytten atten nitten tyve
tredive|tredve fyrre|fyrretyve halvtreds|halvtredsindstyve tres halvfjerds firs halvfems hundrede|hundred
tusind|tusinde million|*millioner;
nb en|ett|én to tre fire fem seks sju|syv åtte ni ti elleve tolv tretten fjorten femten seksten sytten atten nitten
tjue|tyve tretti|tredve førti femti seksti sytti åtti nitti hundre tusen million|*millioner;
fi yksi|yhden kaksi|kahden|kahta kolme|kolmen|kolmea neljä|neljän|neljää viisi|viiden|viittä kuusi|kuuden|kuutta
seitsemän|seitsemää kahdeksan|kahdeksaa yhdeksän|yhdeksää kymmenen yksitoista kaksitoista kolmetoista neljätoista
viisitoista kuusitoista seitsemäntoista kahdeksantoista yhdeksäntoista kaksikymmentä kolmekymmentä neljäkymmentä
viisikymmentä kuusikymmentä seitsemänkymmentä kahdeksankymmentä yhdeksänkymmentä sata|*sataa tuhat|*tuhatta
miljoona|*miljoonaa;
el ένα|μία|έναν δύο|δυο τρεις|τρία|τριών τέσσερις|τέσσερα|τεσσάρων πέντε έξι επτά|εφτά οκτώ|οχτώ εννέα|εννιά δέκα
έντεκα|ένδεκα δώδεκα δεκατρία|δεκατρείς δεκατέσσερα|δεκατέσσερις δεκαπέντε δεκαέξι|δεκάξι δεκαεπτά|δεκαεφτά
δεκαοκτώ|δεκαοχτώ δεκαεννέα|δεκαεννιά είκοσι τριάντα σαράντα πενήντα εξήντα εβδομήντα ογδόντα ενενήντα εκατό|εκατόν
χίλια|χίλιοι|χίλιες|*χιλιάδες εκατομμύριο|*εκατομμύρια 200=διακόσια|διακόσιοι|διακόσιες
300=τριακόσια|τριακόσιοι|τριακόσιες 400=τετρακόσια|τετρακόσιοι|τετρακόσιες 500=πεντακόσια|πεντακόσιοι|πεντακόσιες
600=εξακόσια|εξακόσιοι|εξακόσιες 700=επτακόσια|εφτακόσια|επτακόσιοι|επτακόσιες
800=οκτακόσια|οχτακόσια|οκτακόσιοι|οκτακόσιες 900=εννιακόσια|εννιακόσιοι|εννιακόσιες;
ar - اثنان|اثنين|اثنتان|اثنتين ثلاثة|ثلاث اربعة|اربع خمسة|خمس ستة سبعة|سبع ثمانية|ثماني|ثمان تسعة|تسع عشرة|عشر
احد_عشر|احدى_عشرة اثنا_عشر|اثني_عشر|اثنتا_عشرة|اثنتي_عشرة ثلاثة_عشر|ثلاث_عشرة اربعة_عشر|اربع_عشرة خمسة_عشر|خمس_عشرة
ستة_عشر|ست_عشرة سبعة_عشر|سبع_عشرة ثمانية_عشر|ثماني_عشرة تسعة_عشر|تسع_عشرة عشرون|عشرين ثلاثون|ثلاثين اربعون|اربعين
خمسون|خمسين ستون|ستين سبعون|سبعين ثمانون|ثمانين تسعون|تسعين مئة|مائة الف|*الاف مليون|*ملايين
200=مئتان|مئتين|مائتان|مائتين 300=ثلاثمئة|ثلاثمائة 400=اربعمئة|اربعمائة 500=خمسمئة|خمسمائة 600=ستمئة|ستمائة
700=سبعمئة|سبعمائة 800=ثمانمئة|ثمانمائة|ثمانيمئة 900=تسعمئة|تسعمائة 2000=الفان|الفين;
he *אחד|*אחת שתי|שתיים|שניים שלוש|שלושה|שלושת ארבע|ארבעה|ארבעת חמש|חמישה|חמשת שש|שישה|ששת שבע|שבעה|שבעת שמונה|שמונת
תשע|תשעה|תשעת עשר|עשרה|עשרת אחד_עשר|אחת_עשרה שנים_עשר|שניים_עשר|שתים_עשרה|שתיים_עשרה שלושה_עשר|שלוש_עשרה
ארבעה_עשר|ארבע_עשרה חמישה_עשר|חמש_עשרה שישה_עשר|שש_עשרה שבעה_עשר|שבע_עשרה שמונה_עשר|שמונה_עשרה תשעה_עשר|תשע_עשרה עשרים
שלושים ארבעים חמישים שישים שבעים שמונים תשעים מאה|*מאות אלף|*אלפים מיליון 200=מאתיים 2000=אלפיים;
hi एक दो तीन चार पाँच|पांच छह|छः|छे|छ: सात आठ नौ दस ग्यारह बारह तेरह चौदह पंद्रह|पन्द्रह सोलह सत्रह अठारह|अट्ठारह उन्नीस बीस तीस
चालीस पचास साठ सत्तर अस्सी नब्बे सौ हज़ार|हजार - 100000=लाख 10000000=करोड़|करोड 21=इक्कीस 22=बाईस|बाइस 23=तेईस|तेइस 24=चौबीस
25=पच्चीस 26=छब्बीस 27=सत्ताईस|सत्ताइस 28=अट्ठाईस|अट्ठाइस|अठाईस 29=उनतीस|उन्तीस 31=इकतीस|इकत्तीस 32=बत्तीस 33=तैंतीस|तेंतीस
34=चौंतीस 35=पैंतीस 36=छत्तीस 37=सैंतीस 38=अड़तीस 39=उनतालीस|उन्तालीस 41=इकतालीस 42=बयालीस 43=तैंतालीस 44=चौवालीस|चवालीस
45=पैंतालीस 46=छियालीस 47=सैंतालीस 48=अड़तालीस 49=उनचास 51=इक्यावन 52=बावन 53=तिरपन|तिरेपन 54=चौवन 55=पचपन 56=छप्पन 57=सत्तावन
58=अट्ठावन|अठावन 59=उनसठ 61=इकसठ 62=बासठ 63=तिरसठ|तिरेसठ 64=चौंसठ|चौसठ 65=पैंसठ 66=छियासठ 67=सड़सठ 68=अड़सठ 69=उनहत्तर
71=इकहत्तर 72=बहत्तर 73=तिहत्तर 74=चौहत्तर 75=पचहत्तर 76=छिहत्तर 77=सतहत्तर 78=अठहत्तर 79=उनासी|उन्यासी 81=इक्यासी 82=बयासी
83=तिरासी 84=चौरासी 85=पचासी 86=छियासी 87=सत्तासी|सतासी 88=अट्ठासी|अठासी 89=नवासी 91=इक्यानवे|इक्यानबे 92=बानवे|बानबे
93=तिरानवे|तिरानबे 94=चौरानवे|चौरानबे 95=पंचानवे|पचानवे|पंचानबे 96=छियानवे|छियानबे 97=सत्तानवे|सत्तानबे 98=अट्ठानवे|अट्ठानबे|अठानवे
99=निन्यानवे|निन्यानबे;
id - dua tiga empat lima enam tujuh delapan sembilan sepuluh sebelas dua_belas tiga_belas empat_belas lima_belas
enam_belas tujuh_belas delapan_belas sembilan_belas dua_puluh tiga_puluh empat_puluh lima_puluh enam_puluh tujuh_puluh
delapan_puluh sembilan_puluh seratus|*ratus seribu|*ribu *juta 1=*satu;
vi một|*mốt hai ba(?!_m[ẹá]) bốn|*tư *lăm sáu bảy|bẩy tám chín(?!_chắn) mười - - - - - - - - - hai_mươi ba_mươi
bốn_mươi năm_mươi sáu_mươi bảy_mươi tám_mươi chín_mươi trăm nghìn|ngàn triệu 500=năm_trăm 5000=năm_nghìn|năm_ngàn
"""
LINKS = {"de": "und", "nl": "en", "da": "og", "nb": "og", "cs": "a", "ar": " و"}  # two-and-forty, one word
GLUED = {"de": "(?:und)?", "nl": "(?:en)?", "da": "(?:og)?", "nb": "(?:og)?", "sv": "", "fi": "", "it": "", "tr": ""}
ANDS = {"en": "and", "de": "und", "fr": "et", "es": "y", "pt": "e", "nl": "en", "sv": "och", "da": "og", "nb": "og"}
LEADS = {"ar": "([وبل])?", "he": "(ו)?"}  # "and" is written together with the next word
# From which place on a smaller part follows with a space, and with an "and": 10 is units after tens.
SPACED = dict.fromkeys(("de", "nl", "sv", "da", "nb", "it", "es"), 100) | {
    "pt": 1000,
    "fi": 1000,
    "ar": 10**9,
    "he": 10**9,
}
ANDED = dict.fromkeys(("en", "de", "nl", "sv", "da", "nb"), 100) | dict.fromkeys(("es", "pt", "fr", "ar", "he"), 10)
TEN_AND = {"tr", "vi"}  # where twelve is ten two
VERBS_END = r" (?!(?:ve|ama|mi|mı|sonra|diye|ki|da|de|ya|için|gibi|kadar)\b)\w"  # a Turkish verb has no noun after it
# Too ambiguous as the only word of a number, unless this follows.
NOT_ALONE = {"yedi": VERBS_END, "yüz": VERBS_END} | dict.fromkeys(
    ("sei", "ba", "trăm", "nghìn", "ngàn", "triệu"), r"(?!)"
)
# Where no language is told, words as short are none, but these; nor are some that are words of other languages.
SHORT = {"two", "four", "five", "nine", "deux", "zwei", "drei", "vier", "fünf", "zwölf", "três", "två"}
ELSEWHERE = {"seize", "sexton", "quince"}
ORDINAL = (  # after twenty: no forty-second, no двадцать второй
    r"[- ](?:and )?(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth)\b|-(?:et-)?\w{2,9}ième\b"
    r"| (?:перв|втор|трет|четв[её]рт|пят|шест|седьм|восьм|девят|десят|перш|друг|четверт|п'ят|шост|сьом|дев'ят)"
    r"(?:[ыои]й|[оеь]го|ьего|[оеь]му|ьему|ьем|ом|[ыи]м|ьим|ая|ья|ую|ое|ье|ые|ьи|[ыи]х|ьих|а|у|ої|ій|е|і)\b"
    r"| (?:bir|ik|üç|dörd|beş|alt|yed|sekiz|dokuz)[ıiuü]nc[ıiuü]"
)
PARTED = (  # before hundred, thousand: half a million, 2.5 million, a few hundred
    r"(?:\d|\b(?:half an?|halbe\w?|half|demi|medio|meio|mezzo|halv\w?|puoli|pół|półtora|полтора|півтора|půl|yarım|few"
    r"|several|many|some|einige|mehrere|ein paar|quelques|plusieurs|varios|varias|unos|vários|alguns"
    r"|alcun[ie]|kilka|kilku"
    r"|несколько|кілька|birkaç|beberapa|vài|mấy|nửa|आधा|कई|بضع|עשרות|כמה|enkele|paar|några|nogle|noen))[- ]$"
)
