"""Weekdays, dates, relative days and clock times of every language, and what is none of them."""

from __future__ import annotations

import pytest

from notifications.domain.language.calendar_dates import Date, readable
from notifications.domain.language.calendar_words import (
    dates,
    relative_days,
    strip_calendar,
    time_spans,
    times,
    weekdays,
)

WEEKS = {
    "en": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "de": "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
    "fr": "lundi mardi mercredi jeudi vendredi samedi dimanche",
    "es": "lunes martes miércoles jueves viernes sábado domingo",
    "pt": "segunda-feira terça-feira quarta-feira quinta-feira sexta-feira sábado domingo",
    "it": "lunedì martedì mercoledì giovedì venerdì sabato domenica",
    "nl": "maandag dinsdag woensdag donderdag vrijdag zaterdag zondag",
    "pl": "poniedziałek wtorek środa czwartek piątek sobota niedziela",
    "ru": "понедельник вторник среда четверг пятница суббота воскресенье",
    "uk": "понеділок вівторок середа четвер п’ятниця субота неділя",
    "tr": "pazartesi salı çarşamba perşembe cuma cumartesi",
    "sv": "måndag tisdag onsdag torsdag fredag lördag söndag",
    "da": "mandag tirsdag onsdag torsdag fredag lørdag søndag",
    "nb": "mandag tirsdag onsdag torsdag fredag lørdag søndag",
    "fi": "maanantai tiistai keskiviikko torstai perjantai lauantai sunnuntai",
    "cs": "pondělí úterý středa čtvrtek pátek sobota neděle",
    "el": "Δευτέρα Τρίτη Τετάρτη Πέμπτη Παρασκευή Σάββατο Κυριακή",
    "ja": "月曜日 火曜日 水曜日 木曜日 金曜日 土曜日 日曜日",
    "zh": "星期一 星期二 星期三 星期四 星期五 星期六 星期日",
    "ko": "월요일 화요일 수요일 목요일 금요일 토요일 일요일",
    "ar": "الاثنين الثلاثاء الأربعاء الخميس الجمعة السبت الأحد",
    "he": "יום-שני יום-שלישי יום-רביעי יום-חמישי יום-שישי שבת יום-ראשון",
    "hi": "सोमवार मंगलवार बुधवार गुरुवार शुक्रवार शनिवार रविवार",
    "id": "Senin Selasa Rabu Kamis Jumat Sabtu hari-Minggu",
    "vi": "Thứ-Hai Thứ-Ba Thứ-Tư Thứ-Năm Thứ-Sáu Thứ-Bảy Chủ-nhật",
}
MONTHS = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "pt": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "nl": "januari februari maart april mei juni juli augustus september oktober november december",
    "pl": "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada grudnia",
    "ru": "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
    "uk": "січня лютого березня квітня травня червня липня серпня вересня жовтня листопада грудня",
    "tr": "Ocak Şubat Mart Nisan Mayıs Haziran Temmuz Ağustos Eylül Ekim Kasım Aralık",
    "sv": "januari februari mars april maj juni juli augusti september oktober november december",
    "da": "januar februar marts april maj juni juli august september oktober november december",
    "nb": "januar februar mars april mai juni juli august september oktober november desember",
    "fi": "tammikuuta helmikuuta maaliskuuta huhtikuuta toukokuuta kesäkuuta heinäkuuta elokuuta syyskuuta lokakuuta"
    " marraskuuta joulukuuta",
    "cs": "ledna února března dubna května června července srpna září října listopadu prosince",
    "el": "Ιανουαρίου Φεβρουαρίου Μαρτίου Απριλίου Μαΐου Ιουνίου Ιουλίου Αυγούστου Σεπτεμβρίου Οκτωβρίου Νοεμβρίου"
    " Δεκεμβρίου",
    "ja": "1月 2月 3月 4月 5月 6月 7月 8月 9月 10月 11月 12月",
    "zh": "一月 二月 三月 四月 五月 六月 七月 八月 九月 十月 十一月 十二月",
    "ko": "1월 2월 3월 4월 5월 6월 7월 8월 9월 10월 11월 12월",
    "ar": "يناير فبراير مارس أبريل مايو يونيو يوليو أغسطس سبتمبر أكتوبر نوفمبر ديسمبر",
    "he": "בינואר בפברואר במרץ באפריל במאי ביוני ביולי באוגוסט בספטמבר באוקטובר בנובמבר בדצמבר",
    "hi": "जनवरी फ़रवरी मार्च अप्रैल मई जून जुलाई अगस्त सितंबर अक्टूबर नवंबर दिसंबर",
    "id": "Januari Februari Maret April Mei Juni Juli Agustus September Oktober November Desember",
    "vi": "tháng-1 tháng-2 tháng-3 tháng-4 tháng-5 tháng-6 tháng-7 tháng-8 tháng-9 tháng-10 tháng-11 tháng-12",
}


@pytest.mark.parametrize("language", WEEKS)
def test_week(language: str) -> None:
    names = [name.replace("-", " ") if language in {"he", "id", "vi"} else name for name in WEEKS[language].split()]
    for day, name in enumerate(names):
        assert weekdays(f"{name}.", language) == [day]
        assert weekdays(f"… {name}, …", f"{language}-XX") == [day]
        if name != "Senin":
            assert weekdays(name, None) == [day]


@pytest.mark.parametrize("language", MONTHS)
def test_months(language: str) -> None:
    names = [name.replace("-", " ") for name in MONTHS[language].split()]
    for n, name in enumerate(names, 1):
        for day in (1, 9, 23, 31):
            date = (
                f"{name}{day}{'일' if language == 'ko' else '日'}"
                if language in {"ja", "zh", "ko"}
                else f"{day} {name}"
            )
            assert dates(f"x {date} x", language) == [(None, n, day)]
            assert (None, n, day) in dates(date, None)
            assert not any(map(str.isdigit, strip_calendar(date, language)))
        if language not in {"ja", "zh", "ko"}:
            assert dates(f"x {name} 2026 x", language) == [(2026, n, None)]
            assert dates(f"3 {name} 2026", language) == [(2026, n, 3)]


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("see you on Fridays and Monday's call", "en", [4, 0]),
        ("he sat in the sun, mon ami", "en", []),
        ("Sat 5 May", "en", [5]),
        ("Sat, May 5", "en", [5]),
        ("We met on Thu. at noon", "en", [3]),
        ("looked at the Sun.", "en", []),
        ("Freitagabend und montags", "de", [4, 0]),
        ("die Montage der Küche", "de", []),
        ("Mi, 5. Mai und So, 5.6.", "de", [2, 6]),
        ("das ist so 5 Minuten", "de", []),
        ("mar. 5 mai", "fr", [1]),
        ("el mar 5 veces", "es", []),
        ("na segunda, às 9", "pt", [0]),
        ("na segunda reunião", "pt", []),
        ("terça parte", "pt", []),
        ("w środę i w piątki", "pl", [2, 4]),
        ("środowisko i środek", "pl", []),
        ("w piątkowy wieczór", "pl", [4]),
        ("в среду и по пятницам", "ru", [2, 4]),
        ("окружающая среда", "ru", []),
        ("у п'ятницю", "uk", [4]),
        ("pazar günü", "tr", [6]),
        ("pazarda alışveriş", "tr", []),
        ("cumartesiden salıya", "tr", [5, 1]),
        ("på onsdagen", "sv", [2]),
        ("torstaina ja keskiviikkona", "fi", [3, 2]),
        ("ve středu", "cs", [2]),
        ("την τρίτη φορά", "el", []),
        ("την Τρίτη", "el", [1]),
        ("5月5日(火)", "ja", [1]),
        ("5월 5일(화)", "ko", [1]),
        ("下周三开会", "zh", [2]),
        ("周二3月3日上午9点，周三十点", "zh", [1, 2]),
        ("每周三次", "zh", []),
        ("一周五天", "zh", []),
        ("周五天气好", "zh", [4]),
        ("ביום שלישי", "he", [1]),
        ("बुधवार को", "hi", [2]),
        ("minggu depan hari Selasa", "id", [1]),
        ("lần thứ hai", "vi", []),
        ("vào thứ hai", "vi", [0]),
        ("thứ 2 tuần sau", "vi", [0]),
    ],
)
def test_weekdays(text: str, language: str, expected: list[int]) -> None:
    assert weekdays(text, language) == expected


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("May 5th, 2026", "en", [(2026, 5, 5)]),
        ("the 5th of May", "en", [(None, 5, 5)]),
        ("5–7 May", "en", [(None, 5, 5), (None, 5, 7)]),
        ("from 5 to 7 May", "en", [(None, 5, 5), (None, 5, 7)]),
        ("May 5 and June", "en", [(None, 5, 5), (None, 6, None)]),
        ("in May", "en", [(None, 5, None)]),
        ("May I march in august company?", "en", []),
        ("since March 2025", "en", [(2025, 3, None)]),
        ("Oct. 3", "en", [(None, 10, 3)]),
        ("Jan said it", "en", []),
        ("version 1.2.3 grew by 5.5.", "en", []),
        ("2026-05-05", "en", [(2026, 5, 5)]),
        ("5/6/2026", "en", [(2026, 6, 5), (2026, 5, 6)]),
        ("5/23/26", "en", [(2026, 5, 23)]),
        ("on 5/5, not 4/5 stars", "en", [(None, 5, 5)]),
        ("2026-13-05 and 45.45.2026", "en", []),
        ("am 5. Mai", "de", [(None, 5, 5)]),
        ("im Mai", "de", [(None, 5, None)]),
        ("vom 5.5. bis 7. 5. 2026", "de", [(None, 5, 5), (2026, 5, 7)]),
        ("05.05.2026", "de", [(2026, 5, 5)]),
        ("kl. 9.10.", "da", []),
        ("le 1er mai", "fr", [(None, 5, 1)]),
        ("5 de mayo de 2026", "es", [(2026, 5, 5)]),
        ("1º de maio", "pt", [(None, 5, 1)]),
        ("w maju, z Mają i dla Maja", "pl", [(None, 5, None)]),
        ("Maja powiedziała", "pl", []),
        ("в мае 2026 года", "ru", [(2026, 5, None)]),
        ("5-го мая", "ru", [(None, 5, 5)]),
        ("Марта сказала", "ru", []),
        ("5 Mayıs'ta", "tr", [(None, 5, 5)]),
        ("Eylülde", "tr", [(None, 9, None)]),
        ("bir ocak", "tr", []),
        ("toukokuussa", "fi", [(None, 5, None)]),
        ("slunce září", "cs", []),
        ("v září", "cs", [(None, 9, None)]),
        ("2026年5月5日", "ja", [(2026, 5, 5)]),
        ("二〇二六年五月五日", "zh", [(2026, 5, 5)]),
        ("5か月と三个月", "zh", []),
        ("周二3月3日上午9点", "zh", [(None, 3, 3)]),
        ("2026년 5월 5일", "ko", [(2026, 5, 5)]),
        ("٥ مايو ٢٠٢٦", "ar", [(2026, 5, 5)]),
        ("5 من مايو", "ar", [(None, 5, 5)]),
        ("ב-5 במאי 2026", "he", [(2026, 5, 5)]),
        ("יוני אמר", "he", []),
        ("ngày 5 tháng 5 năm 2026", "vi", [(2026, 5, 5)]),
        ("tháng mười hai", "vi", [(None, 12, None)]),
        ("５月５日", "ja", [(None, 5, 5)]),
    ],
)
def test_dates(text: str, language: str, expected: list[Date]) -> None:
    assert dates(text, language) == expected


@pytest.mark.parametrize(
    ("language", "before", "yesterday", "tomorrow", "after"),
    [
        ("en", "the day before yesterday", "yesterday", "tomorrow", "the day after tomorrow"),
        ("de", "vorgestern", "gestern", "morgen", "übermorgen"),
        ("fr", "avant-hier", "hier", "demain", "après-demain"),
        ("es", "anteayer", "ayer", "mañana", "pasado mañana"),
        ("pt", "anteontem", "ontem", "amanhã", "depois de amanhã"),
        ("it", "l'altro ieri", "ieri", "domani", "dopodomani"),
        ("nl", "eergisteren", "gisteren", "morgen", "overmorgen"),
        ("pl", "przedwczoraj", "wczoraj", "jutro", "pojutrze"),
        ("ru", "позавчера", "вчера", "завтра", "послезавтра"),
        ("uk", "позавчора", "вчора", "завтра", "післязавтра"),
        ("tr", "evvelsi gün", "dün", "yarın", "öbür gün"),
        ("sv", "i förrgår", "igår", "i morgon", "i övermorgon"),
        ("da", "i forgårs", "i går", "i morgen", "i overmorgen"),
        ("nb", "i forgårs", "i går", "i morgen", "i overmorgen"),
        ("fi", "toissapäivänä", "eilen", "huomenna", "ylihuomenna"),
        ("cs", "předevčírem", "včera", "zítra", "pozítří"),
        ("el", "προχθές", "χθες", "αύριο", "μεθαύριο"),
        ("ja", "一昨日", "昨日", "明日", "明後日"),
        ("zh", "前天", "昨天", "明天", "后天"),
        ("ko", "그저께", "어제", "내일", "모레"),
        ("ar", "أول أمس", "أمس", "غدًا", "بعد غد"),
        ("he", "שלשום", "אתמול", "מחר", "מחרתיים"),
        ("id", "kemarin lusa", "kemarin", "besok", "lusa"),
        ("vi", "hôm kia", "hôm qua", "ngày mai", "ngày kia"),
    ],
)
def test_relative_days(language: str, before: str, yesterday: str, tomorrow: str, after: str) -> None:
    for text, day in ((before, -2), (yesterday, -1), (tomorrow, 1), (after, 2)):
        assert relative_days(f"x {text}, x", language) == [day]
        assert relative_days(text, None) == ([] if text == "hier" else [day])


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("गया कल", "hi", [-1, 1]),
        ("heute Morgen, guten Morgen, am Montag morgen", "de", []),
        ("Morgen gehen wir", "de", [1]),
        ("por la mañana, ayer por la mañana", "es", [-1]),
        ("goede morgen", "nl", []),
        ("завтрак", "ru", []),
        ("huomenta", "fi", []),
        ("目前天气", "zh", []),
        ("언어제약", "ko", []),
        ("कला", "hi", []),
        ("Hier ist es, guten Morgen, de morgen, 明日香", None, []),
    ],
)
def test_no_relative_days(text: str, language: str | None, expected: list[int]) -> None:
    assert relative_days(text, language) == expected


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("at 15:30", "en", ["15:30"]),
        ("3 pm, 3:30 p.m. and 3.30 pm", "en", ["15:00", "15:30", "15:30"]),
        ("12 am, 12 pm", "en", ["0:00", "12:00"]),
        ("at 3, or at 5 o'clock", "en", ["3:00", "15:00", "5:00", "17:00"]),
        ("at 3 places, for 3.5 percent, at 3.50 each", "en", []),
        ("at 9 in the morning", "en", ["9:00"]),
        ("half past 3", "en", ["3:30", "15:30"]),
        ("this afternoon, at noon, by midnight", "en", ["12:00", "0:00"]),
        ("2026-05-05T07:30:00", "en", ["7:30"]),
        ("9:00–10:30 am", "en", ["9:00", "21:00", "10:30"]),
        ("15 Uhr, 15.30 Uhr, 15 Uhr 45", "de", ["15:00", "15:30", "15:45"]),
        ("um 3 Prozent", "de", []),
        ("3 am Montag", "de", []),
        ("um halb 4", "de", ["3:30", "15:30"]),
        ("um 8 Uhr abends", "de", ["20:00"]),
        ("15h30, à 9h, 15 h", "fr", ["15:30", "9:00", "21:00", "15:00"]),
        ("3 h de réunion, 2h30 de route", "fr", []),
        ("à 8 h du soir", "fr", ["20:00"]),
        ("a las 9 y media de la noche", "es", ["21:30"]),
        ("às 9 da manhã, às 15h", "pt", ["9:00", "15:00"]),
        ("ore 15, alle 15.30", "it", ["15:00", "15:30"]),
        ("om 15.30 uur, 8 uur slaap", "nl", ["15:30"]),
        ("godz. 15:30, o 16", "pl", ["15:30", "16:00"]),
        ("в 15:30, в 3 часа дня, 3 часа подряд", "ru", ["15:30", "15:00"]),
        ("5 утра, 2 дня", "ru", ["5:00"]),
        ("о 15 годині", "uk", ["15:00"]),
        ("saat 15.30, akşam 8", "tr", ["15:30"]),
        ("kl. 15.30", "sv", ["15:30"]),
        ("klokken 8", "da", ["8:00", "20:00"]),
        ("kl 18", "nb", ["18:00"]),
        ("klo 18.15", "fi", ["18:15"]),
        ("v 15 hodin, 5 hodin práce", "cs", ["15:00"]),
        ("στις 3 μ.μ.", "el", ["15:00"]),
        ("午後3時、3時半、15時30分、3時間", "ja", ["15:00", "3:30", "15:30", "15:30"]),
        ("下午3点，晚上8点半，有三点意见，3小时", "zh", ["15:00", "20:30"]),
        ("周二9点开会，有3点意见", "zh", ["9:00", "21:00"]),
        ("오후 3시 30분, 오후 세 시, 3시간", "ko", ["15:30", "15:00"]),
        ("الساعة ٣", "ar", ["3:00", "15:00"]),
        ("בשעה 15:30", "he", ["15:30"]),
        ("शाम ५ बजे, साढ़े 3 बजे", "hi", ["17:00", "3:30", "15:30"]),
        ("pukul 15.00, jam 3 sore, 3 jam", "id", ["15:00", "15:00"]),
        ("3 giờ chiều, trong 3 giờ", "vi", ["15:00"]),
        ("１５：３０", "ja", ["15:30"]),
    ],
)
def test_times(text: str, language: str, expected: list[str]) -> None:
    assert [f"{minute // 60}:{minute % 60:02}" for minute in times(text, language)] == expected


@pytest.mark.parametrize(
    ("text", "language", "left"),
    [
        ("On 5 May at 15:30 we sold 12 of 40.", "en", ["12", "40"]),
        ("Am 5.5. um 15 Uhr: 3,5 Prozent", "de", ["3", "5"]),
        ("thứ 2 tuần sau 3 người", "vi", ["3"]),
        ("2026年5月5日 午後3時 42人", "ja", ["42"]),
        ("٥ مايو الساعة ٣، ٤٠ شخصا", "ar", ["40"]),
    ],
)
def test_strip_calendar(text: str, language: str, left: list[str]) -> None:
    stripped = strip_calendar(text, language)
    assert len(stripped) == len(readable(text))
    assert "".join(c if c.isdigit() else " " for c in stripped).split() == left


def test_spans_are_of_the_readable_text() -> None:
    text = readable("um １５：３０ Uhr")
    assert [text[start:end] for start, end, _ in time_spans("um １５：３０ Uhr", "de")] == ["15:30 Uhr"]


@pytest.mark.parametrize("language", ["en", None])
@pytest.mark.parametrize(
    "part", ["5.", "1:", "may ", "thứ ", "5 5 ", "三", "5月", "a", " ", "15h", "\u0300", "५", "2026-"]
)
def test_hostile_text_ends(part: str, language: str | None) -> None:
    text = (part * 200_000)[:200_000]
    for found in (weekdays, dates, relative_days, times):
        found(text, language)
