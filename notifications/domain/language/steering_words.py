"""The words of who speaks to a summarizer, in thirteen languages. A word that ends in `-` begins longer ones.

`§ai` stands for AI in capitals, in whatever language. FORGED is markup that no person speaks; WHOLE says all by itself. The others steer in pairs, in one sentence:
who is to IGNORE which RULES; who is ADDRESSED with which COMMANDS; what the OUTPUT is ORDERed to be.
"""

from __future__ import annotations

FORGED = r"""
!\[[^\]]{0,80}\]\(|\[[^\]]{1,80}\]\((?:https?:|javascript:|data:)|<(?:img|a|script|iframe|svg|object)\b|javascript:|data:text/html
<\|[\w ]{2,20}\|>|\[/?INST\]|<</?(?:SYS|نظام)>>|</?(?:notes?|instructions?|system|thinking|think)>
(?:^|\W)#{1,3} ?(?:system|assistant|end of|fin de las notas|new instructions|nuevas instrucciones|note for)
(?<!=)={2,9} ?[\w ]{4,30} ?={2,9}|(?<!-)-{3,9} ?(?:end|begin)|"role": ?"(?:system|developer|assistant)"|/\* ?(?:al modello|llm|§ai)
(?:^|[.!?\n"'>\]] *)(?:system|assistant|developer|§ai|llm)\s?:|\(system:|\[(?:system|message système|sistema)[^\]]{0,20}\]
\[\d{1,4}\] \d{1,2}:\d{2}, \d+ ?min|date: \w+ \d{4}-\d\d-\d\d|システム：|数据：?system
"""
WHOLE = r"""
system prompt|hidden prompt|system-prompt|systemprompt|prompt système|prompt del sistema|prompt de sistema|prompt di sistema
системный промпт|системн\w+ инструкц-|indicaciones del sistema|instructions système|instructions cachées|instrucciones del sistema
istruzioni di sistema|systemanweisung-|systemhinweis|system note|system update: |nota del sistema|note système|nota di sistema
instructions you were given|operating instructions|initial instructions|exact instructions|your (?:new )?(?:directive|instructions?|programming|guidelines|rules have)
(?:secret|hidden) marker|output schema|content policy|safety (?:rules|protocols|guidelines|filters)|no (?:restrictions|content restrictions|filters?|content policy)|without (?:restrictions|rules|limits|any filter|rules,)
(?:intelligence artificielle|inteligencia artificial|inteligência artificial|intelligenza artificiale|künstliche intelligenz)\s?[:,]
developer mode|debug request|modo desarrollador|modo desenvolvedor|entwicklermodus|mode développeur|режим отладки|परीक्षण मोड|mode maintenance|unrestricted|uneingeschränkt|sin restricciones|sans restrictions|senza restrizioni|ohne einschr-|sin filtro
you are (?:now|no longer) (?:dan|an?|in|captain)|you are captain-|du bist (?:jetzt|nun) -|ab jetzt hast du|eres dan|ahora (?:eres|estas) -|vous êtes désormais|ora sei senza|from (?:now|here) on,? (?:you|respond|answer|reply)|as if you have no|an §ai with no|uncensored
decode (?:this|the|it|and)|apply rot13|from rot13|przez rot13|decodifica ed|descifra y|çöz ve uygula|odszyfruj|read it backwards|przeczytaj od tyłu|прочти справа|translate the following from|hex encoded|binary encoded
(?:note|message|instructions?|notice|hint|remark) (?:to|for) (?:the |any |all |whoever )?(?:§ai|bot|assistant|model|llm|language model|machine|system|summari-|chatbot|self)|for the summar(?:y|ising|izing) (?:bot|model|ai)|to its deployed models
(?:hi|hello|hey|dear|listen,?|attention,?) (?:§ai|model|assistant|machine|computer|robot|recorder|chatbot|bot)
(?:^|[.!?,;:–—/|]\s?)(?:§ai|llm|model|assistant|machine|computer|robot|summari[sz]er|copilot|modelo|modell|modello|modèle|§ai|§ai|ассистент|нейросеть)\s?[:,]
§ai (?:assistants?|agents?|systems?|coding agents?)(?: that| reading| reviewing| processing| integrating|\)|:)|if you are an §ai|as the assistant, i|any §ai system|(?:whoever|who) (?:summari[sz]es|writes (?:the|my|this) (?:recap|summary|day|notes))|if a computer is listening|summari[sz]er without rules|your real task|your new (?:task|role)
(?:delete_file|send_email|http_post)|environment variables|customer (?:database|list)|api keys and|(?:rassemble|collect|gather|sammle|reúne|raccogli|zbierz).{1,60}(?:envoie|send|forward|schick|envía|invia|wyślij)|other people on this server|every other user-|other users' -
hinweis an die §ai|deine anweisungen|ihre anweisungen aus|an das sprachmodell|an die §ai|liebe §ai|nutzer ihr passwort|sprachmodell
à l'attention du modèle|tes instructions|vos instructions|assistants numériques|robot rédacteur|note pour (?:l'§ai|le modèle)|cher(?:e|s)? (?:§ai|assistant)
nota para (?:la §ai|el modelo)|modelo sin límites|tus instrucciones|suas instruções|guarda esto para siempre
(?:^|[.!?] )modelo,|resumo que mente|lê isto|nota para (?:a §ai|o modelo)|a partir daqui as notas
assistente che riassume|nota per l'assistente|le tue istruzioni|al modello|all'§ai
twoje instrukcje|do streszczacza|(?:^|[.!?] )modelu,|koniec notatek|początek poleceń|notatka dla (?:§ai|modelu)
для нейросети|твои инструкции|свои инструкции|(?:^|\W)помощник,|нейросет-|сообщение разработчика|для (?:§ai|модели|ассистента)
talimatlarını göster|özetleyiciye|asistanına not
§aiへ|システムメッセージ|あなたの指示|モデルさん|要約する前|今からあなたは|あなたに与えられた|大規模言語モデル|アシスタントへ
系统消息|系统提示|你的(?:全部|所有|系统)?指令|总结助手|总结机器|从现在起只用|大模型|语言模型|角色作废|这是应用客服|智能助手|不要按规定
رسالة من النظام|تعليماتك|إلى النموذج|أيها المساعد|يا روبوت|نموذج اللغة|تعليمات النظام
कंप्यूटर जी|सारांश बनाने वाले|§ai ke liye|एआई के लिए|डेवलपर संदेश|भाषा मॉडल|हमेशा याद रखना
i g n o r e|v e r g i s s|1gn0r3-|ign0r3-|35qu3c3|o l v i d a|the only valid recap
.noitarep-|snoitcurtsni-|reht lleT
remember this permanently|save the following to your|save this note to your|remember for all future|guarda questo per sempre|belleğine kaydet|retain context|long-term memory
"""
IGNORE = r"""
ignor-|disregard-|forget|override|overriding|supersede-|bypass|discard
ignorier-|vergiss|vergessen sie|missachte-
oubli-|néglige-|ne tiens pas compte|olvid-|no hagas caso|desatiende-|esquec-|esqueç-|dimentica-|trascura-
zignoruj-|zapomnij|игнорир-|забудь-|проигнорир-|unut|yok say|görmezden gel|dikkate alma
無視|忘れ|忽略|无视|忘记|忘掉|تجاهل|انس|انسَ|नज़रअंदाज़|नजरअंदाज|भूल जा-|अनदेखा
"""
RULES = r"""
instruction-|instructions|rules|guidelines|directives?|prompt-|everything above|above this line|told at the beginning|policy|policies|directive
anweisung-|regeln|richtlinien|vorgaben|alles, was wir
consignes|règles|instrucciones|reglas|órdenes|directrices|instruções|regras|ordens|istruzioni|regole|direttive|indicazioni
polece-|polecenia|instrukcj-|zasad-|инструкц-|правил-|указани-|talimat-|kural-
指示|命令|ルール|指令|规则|التعليمات|القواعد|الأوامر|تعليمات|निर्देश-|नियम
"""
ADDRESSED = r"""
llms?|gpt|chatgpt|chatbot|the bot|§ai|summari[sz]er|language model|machine|computer|robot|recorder|note-?takers?|this bot
maschine|sprachmodell|kasten|die §ai|machine|ordinateur|assistants numériques|l'§ai|intelligence artificielle|inteligencia artificial|inteligência artificial|intelligenza artificiale|máquina|la §ai|una §ai|resumidor
macchina|macchinetta|al modello|modelu|maszyn-|sztuczn-|машин-|компьютер-|makine|yapay zek-|bilgisayar
人工知能|機械|コンピューター|§ai|ロボット|人工智能|机器|电脑|§ai|النموذج|الآلة|الذكاء الاصطناعي|आप मशीन|मशीन|कंप्यूटर
"""
COMMANDS = r"""
write|say|append|insert|answer|reply|respond|repeat|must|obey|reveal|ignore|note|write down|report
schreib-|sing|sag|antworte|melde|écri-|notez|muestra|incluye|inclua|mostra|réponds|écrivez|escrib-|escrev-|responde|scrivi|scriva|rispondi|di'
napisz|wpisać|powiedz|напиши|скажи|ответь|yaz|söyle|書け|書いて|書き|写|说|答|必须|插入|اكتب|قل|लिख-|बोल-
"""
OUTPUT = r"""
recap|recaps|summary|summari[sz]e|summari[sz]ing|summarising|headline|overview|highlights|knowledge_nuggets|decisions_made|the notes|your (?:answer|reply|text|response)|(?:each|every) report|highlight|in all fields|code block|every list|end of your|whole answer|the user|write this up|among the decisions|this into text|in json|wherever you|your context window|system message
zusammenfassung|tagesrückblick|überschrift|der nutzer|des nutzers|in die entscheidungen|oben muss stehen|verlangten format|jeder antwort
résumé|récapitulatif|en titre|l'utilisateur|point fort|toute réponse
resumen|recapitulación|el usuario|texto final|demás usuarios|cualquier respuesta|destacado
resumo|título|utilizador|usuário|responde tudo
riepilogo|riassunto|riassumi|l'utente|in lettere maiuscole|ogni risposta|formato json|titolo
podsumowani-|przeglądzie|nagłówek|użytkownik-|do decyzji|innych osób z bazy
сводк-|итоге дня|пользовател-|обзор-|заголовок|json|поля ответа
özet-|özette|kullanıcı-|bütün alanlara|kararlar listesine|her şeyi ingilizce|tek haber
要約|概要|見出し|利用者|決定事項|まとめて|最後に
总结|摘要|概述|用户|决定栏|今日回顾|标题
الملخص|الخلاصة|المستخدم|العنوان|القرارات|النموذج|في الحذف
सारांश|शीर्षक|उपयोगकर्ता|रिकैप|summary|फ़ील्ड|अंत में यह वाक्य|ऐसे लिखो
"""
ORDERS = r"""
must|has to|have to|needs?|should|shown|add|append|include|insert|embed|put|write|say|tell|tells|begin|begins|opens?|close|finish|repeat|repeats|mention|report|demands?|list|copy|set|format|reply|respond|answer|output|print|is as follows|is always|does not
schreib-|schreiben|muss|lass|sing|beginne|lass es|füge|nenne|melde|antworte|angehängt|hänge
écris|écrire|ajoute-|ajouté|mets|placer|termine|affiche-|remplis|colle|dis que
pon|incluir|añad-|escrib-|empieza|tiene que|debe-|saludas|di que|es el siguiente
escrev-|inclu-|coloque|acrescenta|precisa pedir|diz que|codificado
scriv-|deve|aggiun-|inserisci|va scritto|rispondi|stampa|invitare
napisz|napisać|dodaj|dołącz|wpisać|ozdób|ma się znaleźć|zamiast
напиши|написано|добавь|выведи|вставь|повтори|заполняй|ответь|скажи|сделай
yaz|ekle|bulunsun|cevapla|başlar|olsun|imzala
書け|書いて|書きなさい|記録せよ|付け足す|出力して|うめて|すること|してください
写上|写|里说|加一句|必须|放|改成|重复|输出|只写
اكتب|أضف|يجب|اطبع|ضع|اذكر|يقول
लिख-|लिखो|लिखना|जोड़ो|डालो|रहे|होगी|दें
"""
