"""What the inventions are made of: names that the days have and names that none has, weekdays, months, number words."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = {
    "en": _words(
        "Gloria Ramon Pavel Delia Nia Tish Curtis Luz Vernon Darla Gemma Mensah Brooke Walter Philippa Geelong Marcus Harriet "
        "Gran Fay Dempster Imani Shirley Joliet Odette Earl Kennedy Luca Carlton Yarra Heidelberg Ballarat Brunswick Bendigo "
        "Dufferin Ingrid Halvorsen Halifax Teo Vaughan Jameson Danielle Kawagama Gord Leon Rosalind Pueblo Callum Otley "
        "Bradford Lindqvist Kettlewell Neil Sheffield Evanston Okonjo Sheridan Kowalczyk Skokie Howard Sills Felix"
    ),
    "de": _words(
        "Anke Miriam Kai Resi Wiebke Hedwig Naumburg Jonas Torben Norwegen Quedlinburg Kempf Weißenfels Rügen Henrik Kassel "
        "Lüttich Dettmer Sommerlath Nils Pohlmann Ralle Swantje Urs Chur Lunghin Beat Regula Lotte Petersen Bremen Rehberg "
        "Emre Oltmanns Worpswede Georg Krems Valentin Resis Mittenwald Ferdl Graz Obertauern Ramsau Kais Miriams"
    ),
    "fr": _words(
        "Corentin Wivine Bertrand Jura Loïc Flavie Sherbrooke Noémie Gagné Thibodeau Québec Memphrémagog Lille Thierry "
        "Capucine Vasseur Marc Namur Bergen Ardenne Élise Prout Angers Leguen Saumur Maëlys Kerbrat Solène Anouk Rachid "
        "Bretagne Nantes Clisson Rezé"
    ),
    "es": _words(
        "Iria Suso Leandro Dorinda Fina Sabela Xurxo Antía Chelís Uxía Xan Emiliano Ximena Fermín Cambrils Burela Vigo Amaro "
        "Roque Celeiro Mirta Beto Sara Belmonte Zaragoza Íñigo Larrauri Ebro Pilar Darío Albarracín Ribadeo Lourdes Noa "
        "Irlanda Bonfanti Gustavo Zúñiga Pátzcuaro Ofelia Abel Medellín Arango Evelio Fabián Rionegro"
    ),
    "pt": _words(
        "Bia Anselmo Otávio Tomás Leonor Setúbal Graciete Valadares Rafa Terceira Filomena Inês Varginha Juca Trieste Dirce "
        "Simone Lúcia Cláudio Nonô Zulmira Ivone Cancún Davi Neide Jussara Bráulio Zeca Curitiba Sônia Vasco Évora Redondo "
        "Quim Beja Amélia Estremoz"
    ),
    "it": _words(
        "Betta Dino Ines Elia Manlio Nives Ivo Loris Loredana Ezio Oreste Lele Ruggero Fausto Lecce Pistoia Duilio Prato "
        "Piero Spoleto Monaco Fiorella Bellucci Pina Trieste Silvano Urbino Marzio Cerignoli Gand Rosi Montedoglio Ubaldo "
        "Cuneo Calabria Bellinzona Keller Biasca Katia Olten Nicla Saverio Greco Mariateresa Gianmarco"
    ),
    "pl": _words(
        "Tymon Edek Leny Helena Jagoda Tymonem Terenia Krysią Krysi Kuba Radka Ignasia Leną Lena Gienka Iga Dorota Witek "
        "Gienkiem Romana Jagody Wrona Olek Kubą Floriana Poznania Kielcami Pawła Paweł Chęcinach Antek Torunia Jaśkiewiczem "
        "Bieleckiej Bydgoszczy Lizbony Hanię Zenon Chełmżą Mirek Rzeszowem Sanem Lublinie Krakowie Lublin Maciek Brixa Radkiem "
        "Florian Wrocławia Ignaś Agata Jadzia Suwałk Kamili Kamila"
    ),
    "ru": _words(
        "Веры Тольятти Денис Гуськов Вера Садовникова Рустамом Галеевым Галеев Артём Лобанов Игорем Сысерти Павел Ремизов "
        "Тамарой Кизиловой Кизилова Алсу Лёвой Димитровском Барнауле Павла Наташа Фаина Мурата Сафина Сафин Жанна Сочи Ренат "
        "Аркадий Олег Самаре Борис Светлогорске Денису Вадим Осокин Сева Тулу Зеленоградска Лариса Борису Тоне Вологде Нины"
    ),
}
OTHER_NAMES = {
    "en": _words("Theodora Quentin Wolverhampton Marguerite Ashby Perpetua Lionel Truro"),
    "de": _words("Kunigunde Eberhard Flensburg Adelheid Rüdiger Wismar Traudl Lennart"),
    "fr": _words("Gontran Hermine Dunkerque Philibert Ondine Briançon Edmée Gaspard"),
    "es": _words("Clodomiro Hortensia Badajoz Eulalia Froilán Teruel Casilda Wenceslao"),
    "pt": _words("Epaminondas Hermínia Bragança Leocádia Querubim Pelotas Domitila Viriato"),
    "it": _words("Ermenegildo Ottavia Caltanissetta Gelsomina Ulderico Sondrio Fulgenzia Amilcare"),
    "pl": _words("Bonifacy Kunegunda Przemyśl Eufemia Ksawery Elbląg Zdzisława Hilary"),
    "ru": _words("Евлампия Порфирий Сыктывкар Аглая Никодим Элиста Степанида Харитон"),
}
WEEKDAYS = {
    "en": _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "de": _words("Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag"),
    "fr": _words("lundi mardi mercredi jeudi vendredi samedi dimanche"),
    "es": _words("lunes martes miércoles jueves viernes sábado domingo"),
    "pt": ("segunda-feira", "terça-feira", "quarta-feira", "quinta-feira", "sexta-feira"),
    "it": _words("lunedì martedì mercoledì giovedì venerdì sabato domenica"),
    "pl": _words("poniedziałek wtorek środę czwartek piątek sobotę niedzielę"),
    "ru": _words("понедельник вторник четверг пятницу субботу воскресенье"),
    "ja": _words("月曜 火曜 水曜 木曜 金曜 土曜 日曜"),
    "zh": _words("周一 周二 周三 周四 周五 周六 周日"),
    "ar": _words("الاثنين الثلاثاء الأربعاء الخميس الجمعة السبت الأحد"),
    "hi": _words("सोमवार मंगलवार बुधवार गुरुवार शुक्रवार शनिवार रविवार"),
}
MONTHS = {
    "en": _words("January February April June July August September October November December"),
    "de": _words("Januar Februar März April Mai Juni Juli August September Oktober November Dezember"),
    "fr": _words("janvier février mars avril mai juin juillet août septembre octobre novembre décembre"),
    "es": _words("enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre"),
    "pt": _words("janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro"),
    "it": _words("gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre"),
    "pl": _words("stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada grudnia"),
    "ru": _words("января февраля марта апреля июня июля августа сентября октября ноября декабря"),
    "ar": _words("يناير فبراير مارس أبريل يونيو يوليو أغسطس سبتمبر أكتوبر نوفمبر ديسمبر"),
    "hi": _words("जनवरी फरवरी अप्रैल जून जुलाई अगस्त सितंबर अक्टूबर नवंबर दिसंबर"),
}
NUMBERS = {
    "en": _words("three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty sixty"),
    "de": _words(
        "drei vier fünf sechs sieben acht neun zehn elf zwölf fünfzehn zwanzig dreißig vierzig fünfzig sechzig"
    ),
    "fr": _words("trois quatre cinq six sept huit dix onze douze quinze vingt trente quarante cinquante soixante"),
    "es": _words("tres cuatro cinco seis siete ocho nueve diez once doce quince veinte treinta cuarenta cincuenta"),
    "pt": _words("três quatro cinco seis sete oito nove dez onze doze quinze vinte trinta quarenta cinquenta"),
    "it": _words("tre quattro cinque sette otto nove dieci undici dodici quindici venti trenta quaranta cinquanta"),
    "pl": _words("trzy cztery pięć sześć siedem osiem dziewięć dziesięć dwanaście piętnaście dwadzieścia trzydzieści"),
    "ru": _words("три четыре пять шесть восемь девять десять двенадцать пятнадцать двадцать тридцать сорок"),
}
QUOTED_WORDS = {
    "en": _words("elephants never gravel umbrella"),
    "de": _words("Elefanten niemals Kies Regenschirm"),
    "fr": _words("éléphants jamais gravier parapluie"),
    "es": _words("elefantes jamás grava paraguas"),
    "pt": _words("elefantes jamais cascalho guarda-chuva"),
    "it": _words("elefanti mai ghiaia ombrello"),
    "pl": _words("słonie nigdy żwir parasol"),
    "ru": _words("слоны никогда гравий зонтик"),
    "ja": _words("象 砂利 雨傘"),
    "zh": _words("大象 碎石 雨伞"),
    "ar": _words("الفيلة أبدًا الحصى المظلة"),
    "hi": _words("हाथी कभी बजरी छाता"),
}
