"""The words for weekdays, months, relative days and clock times, language by language: data only."""

from __future__ import annotations

# Rows end at ";": a language, then one expression a column. "_" is a space, "-" no word, "=" no shape from SHAPES.
TABLES = {
    "weekday": r"""
en monday tuesday wednesday thursday friday saturday sunday;
fr lundi mardi mercredi jeudi vendredi samedi dimanche;
de montag(?!e) dienstag mittwoch donnerstag freitag samstag|sonnabend sonntag;
es lunes martes mi[ée]rcoles jueves viernes s[áa]bados? domingos?;
pt segunda =terça(?:[-_]feira)?(?!_parte) quarta quinta sexta =sábados? =domingos?;
it luned[ìi] marted[ìi] mercoled[ìi] gioved[ìi] venerd[ìi] sabat[oi] domenic(?:a|he);
nl maandag dinsdag woensdag donderdag vrijdag zaterdag zondag;
sv måndag tisdag onsdag torsdag fredag lördag söndag;
da mandag tirsdag onsdag torsdag fredag lørdag søndag;
nb mandag tirsdag onsdag torsdag fredag lørdag søndag;
fi maanantai tiistai keskiviik torstai perjantai lauanta sunnuntai;
pl poniedział(?:ek|k\w+) wtor(?:ek|k\w+) środ(?:[ayęą])|środzie|środow(?:[yae]|ego|ej|ym|ą) czwart(?:ek|k\w+)
piąt(?:ek|ku|kiem|kow\w+)|w_piątki sobo(?:t[ayęą]|cie|tn\w+) niedziel(?:[aięą]|n\w+);
cs ponděl(?:í|k\w|ní\w*) úter(?:ý|k\w|ní\w*) střed(?:[ayuě]|ou) čtvrt(?:ek|k[uy]|kem|eční\w*)
pát(?:ek|k[uy]|kem|eční\w*) sobot(?:[ayuě]|ou|ní\w*) neděl(?:[eií]|ní\w*);
ru понедельни[кч]\w* вторни[кч]\w* (?<!щая_)(?<!щую_)(?<!щей_)сред(?:[ауы]|ам) четверг\w* пятни[цч]\w+ суббот\w*
воскресень\w{1,3}|воскресн(?:[ыо]й|[оы]е|ая|[оы]го|ую|ы[мх]);
uk понеділ(?:ок|к\w+) вівтор(?:ок|к\w+) серед(?:[ауи]|ою|ам) четвер(?:г\w+)? п'ятни[цч]\w+ субот\w+
неділ(?:[яіюь]|ею|ям)|недільн\w+; ko 월요일 화요일 수요일 목요일 금요일 토요일 일요일;
tr pazartesi salı çarşamba perşembe cuma cumartesi
=pazar_(?:gün|sabah|akşam)\w*|(?:bu|geçen|gelecek|önümüzdeki|her|ve)_pazar|(?<=[a-zışğüöç]_)(?-i:Pazar);
el δευτέρ(?:α|ας|ες) (?-i:Τρίτης?) τετάρτης? (?-i:Πέμπτης?) παρασκευής? σ[άα]ββ(?:ατο|άτου|ατα) κυριακής?;
ja 月曜 火曜 水曜 木曜 金曜 土曜 日曜; zh 一 二 三 四 五 六 [日天];
ar (?<!بين_)ال[اإأ]ثنين الثلاثاء ال[أا]ربعاء الخميس الجمعة السبت ال[أا]حد;
he יום_(?:שני|ב') יום_(?:שלישי|ג') יום_(?:רביעי|ד') יום_(?:חמישי|ה') יום_(?:שישי|ו') (?<!ל)שבת|יום_שבת
יום_(?:ראשון|א');
hi सोमवार मंगलवार बुधवार गुरुवार|गुरूवार|बृहस्पतिवार|वीरवार शुक्रवार शनिवार रविवार|इतवार;
vi hai|2 ba|3 tư|4 năm|5 sáu|6 bảy|7 =chủ_nhật;
id senin selasa rabu kamis jum'?at sabtu ahad|hari_minggu|(?<=[a-z]_)(?-i:Minggu)(?!_(?:ini|depan|lalu|ke))""",
    "short weekday": r"""
en mon tues? wed thu(?:rs?)? fri sat sun; de Mo Di Mi Do Fr Sa So; fr lun mar mer jeu ven sam dim;
es lun mar mi[ée] jue vie s[áa]b dom; pt seg ter qua qui sex sáb dom;
it lun mar mer gio ven sab dom; nl ma di wo do vr za zo; pl pn|pon wt śr czw pt sob? nd|niedz;
ru пн вт ср чт пт сб вс; uk пн вт ср чт пт сб нд; sv mån tis? ons? tors? fre lör sön;
da man tirs? ons tors? fre lør søn; nb man tirs? ons tors? fre lør søn; fi ma ti ke to pe la su;
cs - út st čt pá so -; ja 月 火 水 木 金 土 日; ko 월 화 수 목 금 토 일""",
    "month": r"""
en january february march april may june july august september october november december;
de januar|jänner februar märz april mai juni juli august september oktober november dezember;
fr janvier février mars avril mai juin juillet août|aout septembre octobre novembre décembre;
es enero febrero marzo abril mayo junio julio agosto sep?tiembre octubre noviembre diciembre;
pt janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro;
it gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre;
nl januari februari maart april mei juni juli augustus september oktober november december;
sv januari februari mars april maj juni juli augusti september oktober november december;
da januar februar marts april maj juni juli august september oktober november december;
nb januar februar mars april mai juni juli august september oktober november desember;
fi tammi helmi maalis huhti touko kesä heinä elo syys loka marras joulu;
pl stycz(?:eń|ni(?:[au]|em)) lut(?:y|ego|ym) marzec|marc(?:[au]|em) kwie(?:cień|tni(?:[au]|em)) maj(?:[au]|em)?
czerw(?:iec|c[au]|cem) lip(?:iec|c[au]|cem) sierp(?:ień|ni(?:[au]|em)) wrze(?:sień|śni(?:[au]|em))
październik(?:[au]|iem)? listopad(?:a|zie|em)? grud(?:zień|ni(?:[au]|em));
tr ocak şubat mart nisan mayıs haziran temmuz ağustos eylül ekim kasım aralık;
cs led(?:en|n[au]|nem) únor(?:[au]|em)? břez(?:en|n[au]|nem) dub(?:en|n[au]|nem) květ(?:en|n[au]|nem)
červ(?:en|n[au]|nem) červen(?:ec|c[ei]|cem) srp(?:en|n[au]|nem) září říj(?:en|n[au]|nem) listopad(?:u|em)?
prosin(?:ec|c[ei]|cem);
ru январ(?:[ьяюе]|[её]м) феврал(?:[ьяюе]|[её]м) март(?:[ауе]|ом)? апрел(?:[ьяюе]|ем) ма[йяе] июн(?:[ьяюе]|ем)
июл(?:[ьяюе]|ем) август(?:[ауе]|ом)? сентябр(?:[ьяюе]|[её]м) октябр(?:[ьяюе]|[её]м) ноябр(?:[ьяюе]|[её]м)
декабр(?:[ьяюе]|[её]м);
uk січ =лют(?:ий|ого|ому|им) берез квіт трав черв лип серп верес жовт =листопад(?:[ауі]|ом)? груд;
el ιανου(?:άριο[ςν]?|αρίου|άρη) φεβρου(?:άριο[ςν]?|αρίου|άρη) μάρτ(?:ιο[ςν]?|ης?)|μαρτίου
απρίλ(?:ιο[ςν]?|ης?)|απριλίου μά(?:ιο[ςν]?|ης?)|μαΐου ιούνιο[ςν]?|ιουνίου ιούλιο[ςν]?|ιουλίου αύγουστο[ςν]?|αυγούστου
σεπτ(?:έμβριο[ςν]?|εμβρίου|έμβρη) οκτ(?:ώβριο[ςν]?|ωβρίου|ώβρη) νο(?:έμβριο[ςν]?|εμβρίου|έμβρη)
δεκ(?:έμβριο[ςν]?|εμβρίου|έμβρη);
ar يناير|كانون_الثاني فبراير|شباط مارس|[آا]ذار [أإا]بريل|نيسان مايو|[أا]يار يوني[وه]|حزيران يولي[وه]|تموز [أا]غسطس|آب
سبتمبر|[أا]يلول [أا]كتوبر|تشرين_ال[أا]ول نوفمبر|تشرين_الثاني ديسمبر|كانون_ال[أا]ول;
he ינואר פברואר מרץ|מרס אפריל מאי יוני יולי אוגוסט ספטמבר אוקטובר נובמבר דצמבר;
hi जनवरी फ़रवरी|फरवरी मार्च अप्रैल मई जून जुलाई अगस्त सितंबर|सितम्बर अक्टूबर|अक्तूबर नवंबर|नवम्बर दिसंबर|दिसम्बर;
id januari februari maret april mei juni juli agustus september oktober november desember;
vi 1|giêng|một 2|hai 3|ba 4|tư 5|năm 6|sáu 7|bảy 8|tám 9|chín 10|mười 11|mười_một 12|mười_hai|chạp""",
    "short month": r"""
en jan feb mar apr - jun jul aug sept? oct nov dec;
de jan feb mär|mrz apr - jun jul aug sept? okt nov dez;
fr janv févr? - avr - - juil - sept oct nov déc;
es ene feb mar abr may jun jul ago sept? oct nov dic;
pt jan fev mar abr mai jun jul ago set out nov dez;
it gen feb mar apr mag giu lug ago sett? ott nov dic;
nl jan feb mrt apr - jun jul aug sept? okt nov dec;
sv jan feb - apr - jun jul aug sept? okt nov dec;
da jan feb mar apr - jun jul aug sept? okt nov dec;
nb jan feb mar apr - jun jul aug sept? okt nov des;
ru янв февр? мар апр - - - авг сент? окт нояб? дек;
id jan feb mar apr - jun jul agu|agt|ags sept? okt nov des""",
    "relative": r"""
en day_before_yesterday yesterday tomorrow day_after_tomorrow;
fr avant[-_]hier hier demain après[-_]demain;
de vorgestern gestern
(?<!heute_)(?<!gestern_)(?<!\bde_)(?<!goede_)(?<!\bgod_)(?<!tag_)(?<!woch_)(?-i:morgen)|(?:(?<![\s\S])|(?<=[.!?]_))(?-i:Morgen)
übermorgen;
es anteayer|antier|antes_de_ayer ayer (?<!\bla_)(?<!esta_)(?<!cada_)(?<!una_)(?<!misma_)(?<!toda_)(?<!media_)mañana
pasado_mañana; pt anteontem|antes_de_ontem ontem amanhã depois_de_amanhã;
it altro_?ieri|ieri_l'altro ieri(?!_l'altro) domani dopodomani;
nl eergister(?:en)? gister\w*
(?<!\bde_)(?<!\bgod_)(?<!goede_)(?<!elke_)(?<!dag_)(?<!gisteren_)(?-i:morgen)|(?:(?<![\s\S])|(?<=[.!?]_))(?-i:Morgen)
overmorgen; pl przedwczoraj wczoraj(?:sz\w+)? jutr(?:o|a|zej\w+) pojutrze;
ru позавчера вчера(?:шн\w+)? завтра(?:шн\w+)? послезавтра;
uk позавчора [ву]чора(?:шн\w+)? завтра(?:шн\w+)? післязавтра;
tr evvel[sk]i_gün dün(?:kü|den)? yarın(?:ki|a)? öbür_gün|yarından_sonra;
sv i_?förrgår i_?går|gårdagens i_?morgon i_?övermorgon;
da i_?forgårs i_?går|gårsdagens i_?morgen i_?overmorgen;
nb i_?forgårs i_?går|gårsdagens i_?morgen i_?overmorgen;
fi toissapäivänä eilen|eili[sn]\w+ huomenna|huomi[sn]\w+ ylihuomenna;
cs předevčírem včera|včerejš\w+ zítra|zítř\w+ pozítří;
el προχ[θτ][έε]ς ε?χ[θτ]ες|εχθές|χθεσιν\w+ αύριο|αυριαν\w+ μεθαύριο;
ja 一昨日|おととい (?<!一)昨日|きのう 明日(?!香)|あした 明後日|(?<!し)あさって;
zh (?<![目之以大提当])前天(?![气氣]) 昨天|昨日 明[天日](?![气氣香]) (?<![以之今最大])[后後]天(?![天气氣]);
ko 그저께|그제(?![야서]) 어제 내일(?!_?모레) 모레|내일_?모레;
ar [أا]ول_(?:من_)?[أا]مس (?:بال)?[أا]مس|البارحة ال?غد|غد[اًا]{1,2}|بكرة بعد_غد;
he שלשום אתמול מחר מחרתיים; hi - - - - कल परसों;
id kemarin_(?:lusa|dulu) kemarin(?!_(?:lusa|dulu)) besok|esok (?<!kemarin_)lusa;
vi hôm_kia hôm_qua (?:ngày|sáng|trưa|chiều|tối|đêm|hôm)_mai (?<!một_)ngày_(?:kia|mốt)""",
    "noon": r"""
en (?<!after)noon|midday midnight; de - mitternacht; fr (?<!-)midi minuit;
es mediod[ií]a media_?noche; pt meio[-_]dia meia[-_]noite; it mezzogiorno mezzanotte;
nl - middernacht; pl w_południe|samo_południe o_północy;
ru (?<!после_)пол(?:день|удня) пол(?:ночь|уночи|ночи); uk опівдні|полудень опівночі;
tr - gece_yarısı; sv - midnatt\w*; da - midnat; nb - midnatt; fi keskipäiv\w+ keskiyö\w*;
cs poledne(?:m)?|poledni půlnoc[ií]?; el - μεσάνυχτα; ja 正午 午前零時; zh 正午|中午(?!_?[\d一二十两]) 午夜;
ko 정오 자정; ar - منتصف_الليل; he - חצות; hi - आधी_रात; id tengah_hari tengah_malam;
vi giữa_trưa nửa_đêm""",
    # Before a clock time: it always is one; it is one unless a thing counted follows; before an hour with its unit.
    "at": r"""
en - at -; de - um gegen|ab|bis|vor|nach|von; fr - - à|vers|dès|avant|après|de|depuis|jusqu'à;
es - (?:a|hasta|desde|de|sobre|para)_las?|a_la -; pt - às|à|até_às|pelas as|até|das;
it (?<!\d_)ore alle|dalle|all'|entro_le|verso_le -; nl - om rond|tot|voor|na|vanaf|tegen|sinds;
pl (?<!\d_)godz|(?<!\d_)godzin(?:[aęy]|ie|ą) o -; ru - - в|к; uk - - [оувк]|об; tr saat|saati - -;
sv kl|klockan - -; da kl|klokken - -; nb kl|klokk(?:en|a) - -; fi klo|kello - -;
cs - ve? od|do|kolem|po|před; el - στις|(?:μέχρι|από|κατά)_τις -; ar (?:ال|لل|بال)ساعة - -;
he [בלמה]שעה - -; id pukul|(?<!\d_)jam - -; vi lúc - vào|từ|đến|trước|sau""",
}
SHAPES = {  # what stands around each expression of a table
    "weekday": r"""
en @s?; fr @s?; de @\w*; nl @\w*; sv @\w*; da @\w*; nb @\w*; fi @\w*;
tr @(?:y[ae]|d[ae](?:n|ki)?|n[ıi]n|l[ae]r[ıi]?)?;
pt @[-_]feiras?
|(?:na|nesta|até|próxima|toda|desde|última)_@(?=[,.:!?)]|$|_(?:às?|de_manhã|de_tarde|que_vem|passada|e_na)\b);
zh (?:星期|礼拜|禮拜)@|(?<![一二两兩三四五六几幾半\d])[周週]@(?![次个個]|天(?![气氣])|小[时時]|十(?![一二]?[点點]));
vi (?:vào|sáng|chiều|tối|trưa|đêm|đến|từ|hôm|mỗi|tới|và)_thứ_(?:@)|thứ_(?-i:(?=[HBTNS]))(?:@)
|thứ_(?:@)(?=,?_(?:tuần|này|tới|sau|trước|ngày))""",
    "month": r"""
fi @kuu\w*; uk @(?:ень|н[яюі]|нем); tr @(?:[td][ae](?:n|ki)?|[ae]|[ıiuü]n)?;
vi tháng_0?(?:@)(?!\d|_lần|_một|_hai)""",
    "short weekday": r"de (?-i:@); ja (?<=\()@(?=\)); ko (?<=\()@(?=\))",
}
LEADS = {"ar": "[وفبل]?", "he": "[ובלמהש]?"}  # what is written together with the word after it
ELSEWHERE = {"hier", "senin", "out", "set", "gen", "mag"}  # common words of other languages, where none is told
RELATIVE = [[-2], [-1], [1], [2], [-1, 1], [-2, 2]]  # what the columns mean
NO_MONTH = {"may", "march", "ocak", "ekim", "aralık", "Maja", "Марта"}  # unless a day or a year stands beside it
NO_MONTH_ALONE = "may|march|mai|mart|лютий|září|مارس|יוני|יולי|מאי|אפריל"  # nor without one of these before it:
IN_MONTH = "in|of|since|until|last|next|this|from|before|after|early|late|mid|during|by|im|en|au|i|v|w|у|в|شهر|חודש"
DOTS = {"de", "cs", "fi", "pl", "ru", "uk", "tr", "da", "nb", "sv", "el"}  # where "5.5." is a date
ON_DATE = r"on|am|le|el|il|em|dia|den|op|ngày|vào|hôm|pada|tanggal|στις|du|dne|d\.|до|ב-?"  # before 5/6

# Parts of the day: morning, afternoon and evening, night, midday; after a time, and before one.
PARTS_AFTER = (
    "in the morning|morgens|früh|vormittags|am (?:morgen|vormittag)|du matin|de la mañana|de la madrugada|da manhã"
    "|da madrugada|del mattino|di mattina|'s (?:ochtends|morgens)|rano|утра|ранку|sáng|صباح[اًا]{1,2}|فجر[اًا]{1,2}"
    "|בבוקר"
    "|pagi|ráno|aamulla|på morgonen|om morgenen|το πρωί",
    "in the (?:afternoon|evening)|nachmittags|abends|am (?:nachmittag|abend)|de l'après-midi|du soir|de la tarde"
    "|da tarde"
    "|d(?:el|i) pomeriggio|di sera|'s (?:middags|avonds)|po południu|wieczorem|дня|вечера|вечора|chiều|مساءً?"
    "|عصر[اًا]{1,2}"
    '|אחר הצהריים|אחה"צ|בערב|sore|odpoledne|večer|illalla|iltapäivällä|på (?:eftermiddagen|kvällen)'
    "|om (?:eftermiddagen|ettermiddagen|aftenen|kvelden)|το (?:απόγευμα|βράδυ)",
    "at night|nachts|in der nacht|de la noche|da noite|di notte|'s nachts|w nocy|ночи|ночі|tối|đêm|ليل[اًا]{1,2}|בלילה"
    "|malam|v noci|yöllä|på natten|om natten",
    "mittags|siang|trưa|ظهر[اًا]{1,2}|בצהריים",
)
PARTS_BEFORE = (
    "午前|上午|早上|凌晨|清晨|早晨|朝|오전|새벽|아침|सुबह|sabah|morgens",
    "午後|下午|夕方|傍晚|오후|저녁|शाम|akşam|öğleden sonra|nachmittags|abends",
    "晚上|夜里|夜|今晚|昨晚|明晚|밤|रात|gece|nachts",
    "中午|昼|낮|दोपहर|mittags",
)
OF_THE_DAY = "de la |da |утра|вечера|вечора|ранку"  # after a bare number these make it a time, too
# Half past, a quarter past, a quarter to, half to.
TURNS = (30, 15, -15, -30)
TURNS_BEFORE = (
    "half past|साढ़े",
    "quarter past|viertel nach|kwart over|kvart (?:över|over)|सवा",
    "quarter to|viertel vor|kwart voor|kvart (?:i|på)|पौने",
    "halb|halv|om half",
)
TURNS_AFTER = (
    r"y media|et demie?|e meia|e mezz[ao]|rưỡi|buçuk\w{0,2}|και μισή",
    "y cuarto|et quart|e un quarto|και τέταρτο",
    "menos cuarto|moins le quart|meno un quarto|παρά τέταρτο",
)
NOT_COUNTED = (  # after "at 3": no thing that is counted
    "on|in the|for|with|or|but|today|tomorrow|tonight|sharp|when|y|e|o|con|com|para|per|en|em|im|und|mit|oder|bis"
    "|z|w|na|met|με|s"
)
