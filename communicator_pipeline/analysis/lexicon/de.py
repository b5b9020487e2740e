"""German."""

from communicator_pipeline.analysis.lexicon.entry import Lexicon

LEXICON = Lexicon(
    language="de",
    function_words=(
        "der die das und ist in den von zu mit sich des auf für nicht ein eine einen einem einer "
        "als auch es an werden aus er hat dass sie nach wird bei um am sind noch wie über so zum "
        "war haben nur oder aber vor zur bis mehr durch man sein wurde sei wenn ich du wir ihr "
        "mir mich dir dich uns euch kann kannst könnt könnte könntest könnten schon mal bitte "
        "danke hallo ja nein was wer wo wann warum jetzt heute morgen hier da doch denn dann gibt "
        "habe hast bin bist seid will muss soll gut alles klar kein keine ihnen ihre ihren mein "
        "meine meinen dein deine unser unsere etwas nichts sehr gerne leider vielleicht halt eben "
        "nämlich nochmal irgendwie gerade eigentlich wieder immer moin servus freitag"
    ),
    greetings=(
        "^hallo | ^hi | ^hey | guten morgen | guten tag | guten abend | ^moin | ^servus | "
        "^liebe | ^lieber | sehr geehrte* | grüß gott | grüezi | hallo zusammen | ^na"
    ),
    thanks=(
        "danke | dankeschön | danke schön | vielen dank | besten dank | herzlichen dank | thx | "
        "merci"
    ),
    solved=(
        "erledigt | hat sich erledigt | schon gut | funktioniert jetzt | geht jetzt | "
        "geht wieder | klappt jetzt | gelöst | problem gelöst | läuft wieder | habs gefunden | "
        "hab es gefunden | hab s gefunden | vergiss es | nicht mehr nötig | passt jetzt | behoben"
    ),
    fine=(
        "ok | okay | alles klar | passt | super | perfekt | klasse | prima | verstanden | "
        "mach ich | ja | jo | gerne | kein problem | gut | einverstanden | bis dann | "
        "bis morgen | tschüss | gute nacht | glückwunsch | haha | geht klar | in ordnung"
    ),
    question_words=(
        "^was | ^wer | ^wo | ^wann | ^warum | ^wieso | ^weshalb | ^wie | ^welche* | ^wohin | "
        "^woher | ^wem | ^wen | ^hast du | ^habt ihr | ^haben sie | ^haben wir | ^gibt es | "
        "^gibts | ^ist das | ^ist der | ^ist die | ^ist es | ^bist du | ^seid ihr | ^sind sie | "
        "^weiß jemand | ^weißt du | ^wisst ihr | ^wissen sie | ^darf ich | ^kann ich | "
        "^kann man | ^sollen wir | ^soll ich | ^wollen wir | ^hat jemand | ^kennt jemand | "
        "^passt es | ^passt dir | ^geht das | ^muss ich | ^willst du | ^kommst du | ^kommt ihr | "
        "weißt du | ich wollte fragen | ich frage mich | ^noch jemand | ^irgendwelche"
    ),
    asks=(
        "kannst du | könntest du | können sie | könnten sie | könnt ihr | könntet ihr | "
        "kann jemand | könnte jemand | würdest du | würden sie | würdet ihr | magst du | bitte | "
        "sag bescheid | gib bescheid | gib mir bescheid | geben sie mir bescheid | melde dich | "
        "melden sie sich | ruf mich an | rufen sie mich an | schick mir | schicken sie | "
        "schickt mir | hilf mir | brauche deine | brauche ihre | brauchen ihre | brauche eure | "
        "brauche hilfe | brauche dich | was meinst du | was meint ihr | was denkst du | "
        "was meinen sie | warte auf deine | warte noch auf | warten auf ihre | warten noch auf | "
        "deine meinung | wäre nett wenn | wäre super wenn | wäre toll wenn | schau mal | "
        "schaust du | guck mal | schaut euch | denk dran | denk daran | vergiss nicht | ^schick | "
        "^prüf* | ^check | ^ruf | ^sag | ^gib | ^mach | ^bring | ^leite | ^trag | ^bestätige* | "
        "deine freigabe | ihre freigabe | um rückmeldung | um antwort | um rückruf | "
        "bräuchte von dir | ich bräuchte | wir bräuchten | hast du zeit"
    ),
    room=(
        "jemand | irgendwer | alle | leute | zusammen | ihr alle | wer kann | wer weiß | "
        "wer hat | team | wer von euch | einer von euch"
    ),
    not_an_ask=(
        "bitte beachten | bitte beachte | zur info | bitte nicht antworten | "
        "keine antwort nötig | keine aktion nötig | kein handlungsbedarf | bei fragen | "
        "falls du fragen hast | falls sie fragen haben | wie schön | was für ein* | bitte schön | "
        "bitte sehr | anbei | ach bitte | ich schick | ich prüf"
    ),
    urgent=(
        "dringend | eilt | sofort | asap | umgehend | so schnell wie möglich | schnellstmöglich | "
        "notfall | kritisch | unverzüglich | eilig | frist"
    ),
    due=(
        "bis | bis spätestens | spätestens | spätestens am | vor | bis zum | frist | fällig | "
        "fällig am | deadline"
    ),
    due_after="",
    weekdays=(
        "montag | mo",
        "dienstag | di",
        "mittwoch",
        "donnerstag | do",
        "freitag | fr",
        "samstag | sonnabend",
        "sonntag",
    ),
    days={
        0: "heute | heute abend",
        1: "morgen | morgen früh",
        2: "übermorgen",
        7: "nächste woche | nächster woche",
    },
    end_of_week="ende der woche | ende dieser woche | diese woche | wochenende",
    end_of_day="feierabend | tagesende | ende des tages",
    months=(
        "januar | jänner | jan",
        "februar | feb",
        "märz",
        "april",
        "mai",
        "juni",
        "juli",
        "august",
        "september | sept",
        "oktober | okt",
        "november | nov",
        "dezember | dez",
    ),
    at_time="um | uhr | gegen",
    positive=(
        "super | gut | toll | klasse | prima | freue | freut | danke | perfekt | schön | "
        "großartig | wunderbar | glücklich | gefällt | liebe | spitze | ausgezeichnet | genial | "
        "glückwunsch"
    ),
    negative=(
        "schlecht* | kaputt | fehler | problem | probleme | leider | falsch | langsam | "
        "verspätet | verspätung | fehlt | traurig | enttäusch* | unzufrieden | beschwerde* | "
        "nervt | schwierig | besorgt | sorge | ärgerlich | schade"
    ),
    angry=(
        "wütend | sauer | unverschämt* | inakzeptabel | unakzeptabel | katastrophe | "
        "katastrophal | furchtbar | schrecklich | frechheit | lächerlich | zum kotzen | scheiße | "
        "mist | unmöglich | hasse | anwalt | nie wieder | betrug | reicht mir | schnauze voll | "
        "zumutung | saftladen"
    ),
    negations="nicht | kein | keine | nie | niemals | kaum | nichts | keinen",
    injection=(
        "ignoriere alle vorherigen | ignoriere die vorherigen anweisungen | "
        "ignoriere vorherige anweisungen | ignoriere alle anweisungen | "
        "ignoriere deine anweisungen | ignoriere alle bisherigen | vergiss alle anweisungen | "
        "vergiss deine anweisungen | vergiss alle vorherigen anweisungen | dein systemprompt | "
        "deinen systemprompt | zeige deinen prompt | hinweis an die ki | nachricht an die ki | "
        "hinweis an den assistenten | hinweis für die ki | hinweis für den assistenten | "
        "wenn du eine ki bist | falls du eine ki bist | als ki assistent | "
        "als assistent musst du | als assistent sollst du | anweisung an die ki | "
        "anweisungen an die ki | anweisung für den assistenten | du bist jetzt dan"
    ),
    commits=(
        "ich habe | hab ich | ich werde | ich schicke | ich schick | ich mache | ich mach | "
        "mache ich | mach ich | ich kümmere | ich prüfe | ich bin | wir haben dir | wir werden | "
        "erledigt | ^gemacht | verschickt | geschickt | habs | hab s | wird gemacht | ist raus | "
        "im anhang | anbei | genehmigt | freigegeben | ich rufe | ich melde | ich sende | "
        "passt mir | bis dann | bis gleich"
    ),
    topics={
        "question": (
            "weiß jemand | hat jemand | kennt jemand | wer hat | wer weiß | wo liegt | wo finde | "
            "unterschied zwischen | wisst ihr | weißt du | wie kann ich | wie geht das | "
            "was ist | wo finde ich | eine frage | kurze frage | frage zu | frage zum | "
            "warum ist | welche | wieso | wer ist | wo ist | wie funktioniert | gibt es | "
            "was bedeutet | was heißt"
        ),
        "request": (
            "erinner mich | trag mich ein | korrekturlesen | übersetz* | vertreten | "
            "vertretung | hilf mir | leih* | überweis* | ausfüllen | abstimm* | bestell | "
            "mitbringen | bring | kannst du mir | könntest du mir | wer kann | ich brauche | "
            "bitte schick | bitte prüfen | schick mir | brauche deine | brauche ihre | "
            "freigabe | freigeben | kann jemand | würdest du | schau mal | um rückmeldung | "
            "drüberschauen | gegenlesen | unterschreib* | weiterleiten | ich bräuchte | "
            "kann ich bekommen | könnte ich bekommen | zu verleihen | ausleihen | fehlt noch | "
            "fehlen noch | wir brauchen | wer nimmt | wer macht | wer bringt | "
            "wer kümmert sich | kann das jemand | wir suchen | hilfe gesucht | dürfen wir | "
            "wäre toll wenn"
        ),
        "scheduling": (
            "wann treffen | wann sollen wir | wann kommst | wann kommt | abholen | "
            "vorbeikommen | kommst du | kommt ihr | welcher tag | an welchem tag | schicht | "
            "schichten | tauschen | bist du da | seid ihr da | wie wär s | wie wäre es | "
            "reservieren | zusage | zusagen | termin | termine | mittagessen gehen | "
            "essen gehen | auf einen kaffee | frühstück* | treffen | meeting | besprechung | "
            "kalender | verschieben | uhrzeit | hast du zeit | habt ihr zeit | haben sie zeit | "
            "wann passt | passt dir | passt es | passt ihnen | verabreden | einladung | "
            "mittagessen | telefonat | telefonieren | zeitfenster | um wie viel uhr | verlegen | "
            "vereinbaren | wann können wir | kann ich kommen | kann ich vorbeikommen | "
            "kannst du kommen | könnt ihr kommen | wer ist dabei | freinehmen | welche tage | "
            "wer hat zeit | wer kommt | ich komme | bin dabei | schaffe es nicht | "
            "komme später | passt besser | wann kann ich | wann können"
        ),
        "incident": (
            "unfall | wasserschaden | rohrbruch | stromausfall | gestohlen | geklaut | "
            "diebstahl | verletzt | krankenhaus | panne | evakuier* | tropft | überschwemm* | "
            "einbruch | ausfall | störung | ausgefallen | nicht erreichbar | produktion steht | "
            "server ist down | server down | ist down | vorfall | fehlerrate | alarm | "
            "rollback | notfall | datenverlust | systemausfall | offline | bereitschaft | "
            "sicherheitslücke | zeitüberschreitung* | 500er | heizung ist | kein strom | "
            "kein warmwasser | brandalarm | es brennt | brand in"
        ),
        "sales": (
            "kostet | pro stück | großhandel | verkaufen | lieferant | gebühr | provision | "
            "sponsor* | pro monat | kalkulation | zu verkaufen | zahlungsziel | mwst | "
            "anzahlung | kooperation | angebot | preis | preise | preisliste | rabatt | "
            "vertrag | bestellung aufgeben | lizenz* | kaufen | testversion | was kostet | "
            "wie viel kostet | bestellen | kostenvoranschlag | partnerschaft | demo | "
            "lieferbar | auftrag | budget | einkauf | verkauft ihr | verkaufen sie | händler | "
            "möchten bestellen | würden gern bestellen | mindestmenge | möchte kaufen | "
            "möchte bestellen | kann man bei euch kaufen | versendet ihr | vorbestell*"
        ),
        "support": (
            "umtausch | umtauschen | reparatur | reparieren | geht nicht an | startet nicht | "
            "finde mein* | verloren | hat aufgehört | lädt nicht | falsche größe | "
            "falscher artikel | kundendienst | kundenservice | funktioniert nicht | geht nicht | "
            "klappt nicht | fehlermeldung | kaputt | passwort | meine bestellung | mein konto | "
            "mein paket | rückerstattung | erstattung | anmelden | einloggen | absturz | "
            "stürzt ab | problem mit | garantie | beschädigt | reklamation | installieren | "
            "nicht angekommen | zugang | gesperrt | fehler beim | defekt | garantiefall | "
            "defekt* | quietsch* | klappert | wackelt | kratzer | gerissen | "
            "reklamier* | keine antwort | warte noch immer | lässt sich nicht | springt nicht"
        ),
        "fyi": (
            "bin nicht da | abwesend | im urlaub bis | neue regelung | ab jetzt | ab montag | "
            "kurzes update | hier sind die | hier die | aushang | verschoben auf | ergebnis | "
            "ergebnisse | jetzt verfügbar | hochgeladen | abgelegt | aktualisiert | "
            "habe soeben | zur info | zur information | nur zur info | zur kenntnis | fyi | "
            "ankündigung | hinweis | protokoll | newsletter | veröffentlicht | bitte beachten | "
            "ab sofort | kein handlungsbedarf | keine antwort nötig | ist jetzt live | "
            "zusammenfassung | stand der dinge | geschlossen | ausgerollt | wurde aktualisiert | "
            "wie besprochen | anbei | achtung | erinnerung | ist wieder offen | ist fertig | "
            "öffnungszeiten | abbestellen | wieder offen | jetzt offen | ist da | sind da | "
            "ausverkauft | wieder auf lager | ab morgen"
        ),
        "social": (
            "gut gemacht | stolz | süß | foto | fotos | mama | papa | oma | opa | rezept | "
            "lecker | konzert | lied | wetter | katze | hund | garten | drück dich | "
            "drücke dich | lustig | wunderschön | wie war s | wie war es | gute reise | prost | "
            "liebe grüße | lg | kuss | viel spaß | alles gute | geburtstag | glückwunsch | "
            "herzlichen glückwunsch | wie geht's | wie geht es dir | schönen abend | "
            "schönes wochenende | gute nacht | frohe weihnachten | feiern | feierabendbier | "
            "haha | lol | hab dich lieb | grillen | party | gute besserung | kino | willkommen | "
            "frohes neues | spaß | wie schön | so schön | torte | kuchen | kostüm | fußball | "
            "meine frau | mein mann | enkel | liebe dich | danke euch allen | danke an alle | "
            "war ein schöner | wahnsinn | so stolz | viel glück | viel erfolg | danke dir | "
            "bis bald | freut mich | gratuliere | was für ein tag | was für ein abend"
        ),
        "spam": (
            "jetzt klicken | hier klicken | gewonnen | gewinnspiel | gewinn | kostenlos | "
            "geld verdienen | schnelles geld | garantierte rendite | rendite | krypto | "
            "bitcoin | casino | angebot nur heute | nur heute | gutschein | passives einkommen | "
            "kredit ohne | von zu hause arbeiten | verdiene | investieren sie | "
            "ihr konto wird gesperrt | konto verifizieren | preis sichern | follower kaufen | "
            "garantiert | kein risiko | ohne risiko | verdienen sie | mehr follower"
        ),
    },
    hello="Hallo {name},",
    acknowledge={
        "": "danke für die Nachricht. Ich schaue es mir an und melde mich.",
        "question": "danke für die Frage. Ich schaue nach und melde mich.",
        "request": "danke, ich habe die Anfrage gesehen und schaue sie mir an.",
        "scheduling": "danke für die Nachricht. Ich schaue in meinen Kalender und melde mich.",
        "incident": "danke für den Hinweis. Ich schaue es mir an.",
        "support": (
            "danke für die Meldung, und Entschuldigung für die Umstände. Ich schaue es mir an."
        ),
        "sales": "danke für das Interesse. Ich schaue es mir an und melde mich.",
        "social": "danke für die Nachricht!",
    },
    answer={
        "when": "Zeitpunkt: {gap}.",
        "how_much": "Der Betrag: {gap}.",
        "where": "Zu finden hier: {gap}.",
        "who": "Zuständig: {gap}.",
        "free": "Mir passt: {gap}.",
    },
    gaps={
        "date": "Datum",
        "time": "Uhrzeit",
        "amount": "Betrag",
        "number": "Zahl",
        "link": "Link",
        "email": "E-Mail-Adresse",
        "phone": "Telefonnummer",
        "order": "Bestellnummer",
        "name": "Name",
        "place": "Ort oder Link",
        "address": "Adresse",
        "file": "Datei",
        "when": "Datum oder Uhrzeit",
        "how_much": "Betrag",
        "where": "Ort oder Link",
        "who": "Name",
        "free": "ja, nein oder ein anderer Termin",
        "secret": "Geheimnis",
    },
    asked={
        "when": "wann | um wie viel uhr | bis wann | wie lange | welches datum",
        "how_much": "wie viel | wieviel | wie viele | was kostet | welcher preis | der preis",
        "where": "wo | wohin | der link | welche adresse | den link",
        "who": "wer | wen | wem | welche person",
        "free": (
            "hast du zeit | haben sie zeit | habt ihr zeit | passt dir | passt es | passt ihnen | "
            "passt euch | verschieben | können wir uns treffen | wollen wir uns treffen | "
            "treffen wir"
        ),
    },
    summaries={
        "injection": (
            "{name} hat eine Nachricht mit Anweisungen an einen Assistenten geschickt; nicht "
            "zitiert."
        ),
        "nothing": "{name} hat etwas ohne Text geschickt.",
        "files": "{name} hat Dateien geschickt: {files}",
    },
)
