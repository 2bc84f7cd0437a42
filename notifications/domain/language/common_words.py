"""What every text of a language has: words that say nothing by themselves, and the endings of cases."""

from __future__ import annotations


def words_of(text: str) -> frozenset[str]:
    """A table of words, in whatever lines."""
    return frozenset(text.split())


def tuple_of(text: str) -> tuple[str, ...]:
    """A table of words whose order counts."""
    return tuple(text.split())


# What every text of a language has, and what sentences begin with: no names, and nothing that a sentence is about.
COMMON: dict[str, frozenset[str]] = {
    "en": words_of(
        """
    a about above after again all almost already also although always am an and another any anyone anything are
    around as at away back be became because become been before began begin being below best better between big both
    brought but by came can cannot come could day did do does doing done down during each either else end enough
    even ever every everyone everything few finally find first five for found four from full further gave get
    getting give given go goes going gone good got great had half happened has have having he her here hers herself
    him himself his how however i if in instead into is it its itself just keep kept last late later least left less
    let like little long look lot made make many may maybe me meanwhile met mid might mine more most much must my
    myself near nearly need never new next no nobody none nor not nothing now of off often on once one only onto
    open or other others our ours out over own part people perhaps plus put quick quite rather really right said
    same saw say second see seem several shall she should since six so some someone something soon spent spoke still
    such take talk talked ten than that the their theirs them themselves then there these they thing things third
    this those though three through throughout time to today together told tomorrow tonight too took toward towards
    two under until up upon us very was way we week well went were what when where whether which while who whole
    whom whose why will with within without work would year yes yesterday yet you your yours yourself morning
    afternoon evening night lunch dinner breakfast remember remind don't it's you're you've you'll didn't
    """
    ),
    "de": words_of(
        """
    ab aber alle allem allen aller alles als also am an andere anderen ansonsten auch auf aus außerdem bei beide
    beim bin bis bisher bist da dabei dadurch dafür dagegen daher damit danach dann daran darauf darüber darum das
    dass dazu dein deine deinem deinen deiner dem den denn der des deshalb dich die dies diese diesem diesen dieser
    dieses dir doch dort du durch ein eine einem einen einer eines einige er erst es etwas euch euer für gab ganz
    gar gegen gehabt geht gestern gibt gut habe haben hast hat hatte hatten hattest heute hier hin hinter ich ihm
    ihn ihnen ihr ihre ihrem ihren ihrer im immer in ins ist ja je jede jedem jeden jeder jetzt kann kannst kein
    keine man mehr mein meine mit möchte morgen muss musst nach nachdem nachmittags nächste nach nicht nichts noch
    nun nur ob oder ohne sehr sein seine seinem seinen seiner seit sich sie sind so sogar soll sollst sollte sondern
    sonst trotz über um und uns unser unter viel viele vielleicht vom von vor vorher wann war waren warst warum was
    weil weiter welche wenn wer werden wie wieder will wir wird wirst wo wollen wollte worden wurde wurden zu zuerst
    zum zur zusammen zwei zwischen zuletzt schließlich später mittags abends morgens
    """
    ),
    "fr": words_of(
        """
    à afin ai ainsi alors après as au aucun aujourd'hui aura aussi autre autres aux avant avec avez avoir bien car
    ce cela celle celui cependant ces cet cette ceux chaque chez comme comment contre d'abord dans de déjà demain
    depuis des dès deux donc dont du elle elles en encore enfin ensuite entre est et étaient était été être eu fait
    faire faut hier ici il ils j'ai je jusqu'à l'après-midi la le les leur leurs lors lorsque lui ma mais mes moi
    moins mon ne ni nos notre nous on ont ou où par parce parmi pas pendant peu peut plus plusieurs pour pourquoi
    puis quand que quel quelle quelques qui quoi sa sans se sera ses si soir son sont sous sur ta tes toi ton tous
    tout toute toutes très trop tu un une vers veut voici voilà vos votre vous y matin midi c'est s'est l'équipe
    plutôt toujours jamais
    """
    ),
    "es": words_of(
        """
    a además ahora al algo alguien algunos allí ante antes aquí así aún aunque ayer bajo bien cada casi como cómo
    con contra cual cuál cuando cuándo de debe del desde después donde dónde dos durante e el él ella ellas ellos en
    entonces entre era eran eres es esa ese eso esta está estaba están este esto estos fue fueron ha había han has
    hasta hay haya hemos hizo hoy la las le les lo los luego mañana más me mi mientras mis mucho muy nada nadie ni
    no nos nosotros nuestra nuestro o os otra otro para pero poco por porque primero pues que qué quedó quien quién
    se según ser si sí sido sin sobre solo sólo son su sus también tampoco tan tanto te tenía tiene todo todos tras
    tu tú tus un una unas uno unos usted ustedes y ya yo tarde noche finalmente
    """
    ),
    "pt": words_of(
        """
    a à agora ainda além algo alguém alguns ali amanhã antes ao aos apenas após aquele aqui as às assim até bem cada
    com como contra da das de dela dele depois desde dia disso do dois dos durante e é ela elas ele eles em enquanto
    então entre era essa esse esta está estão este estava eu finalmente foi foram há hoje isso isto já la lá lhe
    logo mais mas me mesmo meu minha muito na nada não nas nem no nos nós nossa nosso num numa o onde ontem os ou
    outra outro para pela pelo por porque pouco pois primeiro quais qual quando quanto que quem se sem ser será seu
    sua são sob sobre só também tem tinha todo todos tudo tua um uma umas uns vai você vocês manhã noite tarde
    segundo
    """
    ),
    "it": words_of(
        """
    a abbiamo ad adesso ai al alcuni alla alle allo allora altra altri altro anche ancora avete aveva c'è che chi ci
    come con contro così cosa cui da dagli dai dal dalla dalle davanti degli dei del della delle dello dentro di
    domani dopo dove due durante e è ed era erano fa fare fino fra già gli ha hai hanno ho i ieri il in infine
    insieme intanto invece io l'ha la le lei li lo loro lui ma mai me meno mentre mi mia mio molto ne negli nei nel
    nella nelle nessuno niente no noi non nostra nostro nulla o oggi ogni oltre per perché però più poco poi prima
    proprio quale quando quanto quasi quella quelle quello questa queste questi questo qui se sei sempre senza sera
    si sì sia sono sopra sotto stata stato su sua subito sue sui sul sulla suo te ti tra troppo tu tua tuo tutta
    tutti tutto un una uno va vi voi mattina pomeriggio notte inoltre
    """
    ),
    "nl": words_of(
        """
    aan al alle alleen alles als ben bent bij daar daarna dan dat de deze die dit doen door dus een en er ergens
    gaan geen had hadden hebben hebt heeft heel het hier hij hoe hun iets ik in is ja je jij jou jouw jullie kan kon
    maar meer men met mijn misschien moet na naar net niet niets nog nu of om omdat ook op over rond sinds later
    eerst uit uw van vandaag veel voor waar waarom wanneer want waren was wat we wel werd wie wij wilde word wordt
    zal ze zei zich zij zijn zo zonder zou morgen gisteren avond middag ochtend
    """
    ),
    "pl": words_of(
        """
    a aby ale ani bardzo bez być był była było były będzie bo by chce choć ci co czy dla do dziś dzisiaj gdy gdzie
    go i ich im inne ja jak jako je jego jej jest jeszcze jeśli jutro już każdy kiedy która które który ku lub ma
    mają mi mimo mnie może można my na nad nam nas nasz nawet nic nie niej nich nim o od ona one oni oraz po pod
    podczas ponieważ potem poza przed przez przy są się sobie swój ta tak także tam te tego tej ten też to tobie tu
    twój ty tych tylko tym u w we wczoraj wam was więc wieczorem wszystko z za zanim ze że żeby rano następnie
    później najpierw dwa trzy rozmowa rozmawiasz rozmawiałeś rozmawiałaś
    """
    ),
    "ru": words_of(
        """
    а без бы был была были было быть в вам вас весь во вот все всё вы где да для до его ее её если есть ещё еще же
    за завтра здесь и из или им их к как какой когда кто ли лишь между меня мне мы на над нам нас не него неё нет ни
    но ну о об однако он она они оно от очень перед по под после потом потому при про с сам своей свой себя сегодня
    сейчас со так также там тебе тебя тем то тоже того той только том тут ты у уже хотя чего чем что чтобы эта эти
    это этот я вчера вечером утром днём днем затем сначала позже ваш твой
    """
    ),
}
ENGLISH_ENDINGS = ("ing", "ed", "ly", "tion", "sion", "ment", "ness", "ity")
# Case endings: where names are inflected, the longest that fits is taken off before two words are compared.
ENDINGS: dict[str, tuple[str, ...]] = {
    "pl": tuple_of(
        """
    owie ami ach owi iej ego emu ie ią ię om em ów ej ą ę a e i o u y
    """
    ),
    "ru": tuple_of(
        """
    ами ями ого ему ой ей ом ем ам ям ах ях ою ею ия ии ию а я о е у ю ы и ь
    """
    ),
    "uk": tuple_of(
        """
    ами ями ого ому ою ею ові еві ой ей ом ем ам ям ах ях а я о е у ю і и ї ь
    """
    ),
    "cs": tuple_of(
        """
    ovi ami ách ech ou em ům a e ě i o u y ů
    """
    ),
    "tr": tuple_of(
        """
    'nin 'nın 'nun 'nün 'in 'ın 'un 'ün 'e 'a 'i 'ı 'u 'ü 'ye 'ya 'de 'da 'den 'dan 'le 'la
    """
    ),
    "fi": ("ssa", "ssä", "sta", "stä", "lla", "llä", "lta", "ltä", "lle", "n", "a", "ä"),
}
