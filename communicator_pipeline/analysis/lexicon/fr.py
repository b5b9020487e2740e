"""French."""

from communicator_pipeline.analysis.lexicon.entry import Lexicon

LEXICON = Lexicon(
    language="fr",
    function_words=(
        "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il "
        "sont avec ou son aux d l n s j m t c qu y je tu nous vous ils elle elles on mais si leur "
        "sa ses mon ma mes ton ta tes notre nos votre vos cette ces cet tout tous toute toutes "
        "être avoir fait faire ai as avons avez ont suis es êtes sommes était très bien aussi "
        "comme peut peux pouvez pourrais pourriez bonjour salut merci oui non demain aujourd hui "
        "ça cela quand où comment pourquoi quoi quel quelle quelqu personne rien ici là encore "
        "déjà alors donc puis sans sous entre moi toi lui eux stp svp coucou bonsoir vendredi "
        "lundi envoyer besoin faut voir vais va vas allez allons fois peu trop juste parce chez "
        "mdr jour semaine réunion plaît"
    ),
    greetings=(
        "^bonjour | ^salut | ^coucou | ^bonsoir | ^cher | ^chère | ^hello | bonjour à tous | ^allô"
    ),
    thanks="merci | merci beaucoup | mille mercis | merci bcp | je vous remercie | je te remercie",
    solved=(
        "résolu | c'est réglé | réglé | ça marche maintenant | ça fonctionne maintenant | "
        "c'est bon maintenant | laisse tomber | laissez tomber | j'ai trouvé | plus besoin | "
        "oublie | oubliez | problème résolu | corrigé | c'est bon j'ai | ça remarche"
    ),
    fine=(
        "ok | d'accord | parfait | super | génial | entendu | compris | oui | bien sûr | "
        "ça marche | nickel | top | pas de problème | pas de souci | à demain | à bientôt | "
        "au revoir | bonne nuit | félicitations | bravo | mdr | haha | c'est fait | bien reçu | "
        "c'est noté | noté"
    ),
    question_words=(
        "^qui | ^que | ^quoi | ^quand | ^où | ^pourquoi | ^comment | ^combien | ^quel | ^quelle | "
        "^quels | ^quelles | est-ce que | est-ce qu | ^est-ce | qu'est-ce | ^c'est quoi | "
        "^as-tu | ^avez-vous | ^es-tu | ^êtes-vous | ^y a-t-il | ^tu as | ^tu peux | ^quelqu'un | "
        "^savez-vous | ^sais-tu | ^puis-je | ^peut-on | ^on peut | ^faut-il | ^à quelle heure | "
        "^pour quand | ^tu viens | ^vous avez | ^doit-on | je me demande | je voulais savoir | "
        "^tu sais | ^t'as | ^des nouvelles | ^veux-tu"
    ),
    asks=(
        "peux-tu | pouvez-vous | pourrais-tu | pourriez-vous | tu peux | tu pourrais | "
        "vous pouvez | vous pourriez | s'il te plaît | s'il vous plaît | stp | svp | merci de | "
        "dis-moi | dites-moi | tiens-moi au courant | tenez-moi au courant | appelle-moi | "
        "appelez-moi | rappelle-moi | rappelez-moi | envoie-moi | envoyez-moi | aide-moi | "
        "aidez-moi | j'ai besoin de ton | j'ai besoin de ta | j'ai besoin de votre | "
        "j'ai besoin que | besoin d'aide | j'attends ta | j'attends votre | j'attends ton | "
        "nous attendons votre | qu'en penses-tu | qu'en pensez-vous | t'en penses quoi | "
        "tu en penses quoi | ton avis | votre avis | ton accord | votre accord | ta validation | "
        "votre validation | auriez-vous | aurais-tu | veuillez | n'oublie pas | n'oubliez pas | "
        "^envoie | ^vérifie* | ^regarde | ^confirme* | ^valide* | jette un oeil | jeter un oeil | "
        "jeter un œil | quelqu'un peut | quelqu'un pourrait | fais-moi savoir | "
        "faites-moi savoir | donne-moi | donnez-moi | passe-moi | transmets | il faut que tu | "
        "ça te dit | je voudrais que"
    ),
    room="quelqu'un | tout le monde | tous | l'équipe | qui peut | qui sait | les gars | à tous",
    not_an_ask=(
        "pour info | pour information | veuillez noter | à noter | merci de ne pas répondre | "
        "ne pas répondre | pas besoin de répondre | aucune action | inutile de répondre | "
        "si vous avez des questions | si tu as des questions | n'hésitez pas | n'hésite pas | "
        "cliquez ici | quel plaisir | quelle joie | quelle bonne | veuillez trouver | "
        "pièce jointe | merci d'avance pour votre patience"
    ),
    urgent=(
        "urgent | urgence | au plus vite | dès que possible | immédiatement | tout de suite | "
        "critique | asap | rapidement | d'urgence | date limite"
    ),
    due=(
        "avant | d'ici | jusqu'à | jusqu'au | au plus tard | pour le | avant le | date limite | "
        "échéance | d'ici à | pour"
    ),
    due_after="au plus tard | dernier délai",
    weekdays=(
        "lundi",
        "mardi",
        "mercredi",
        "jeudi",
        "vendredi",
        "samedi",
        "dimanche",
    ),
    days={
        0: "aujourd'hui | ce soir | cet après-midi",
        1: "demain",
        2: "après-demain",
        7: "la semaine prochaine | semaine prochaine",
    },
    end_of_week="fin de semaine | fin de la semaine | cette semaine",
    end_of_day="fin de journée | fin de la journée",
    months=(
        "janvier",
        "février",
        "mars",
        "avril",
        "mai",
        "juin",
        "juillet",
        "août",
        "septembre",
        "octobre",
        "novembre",
        "décembre",
    ),
    at_time="à | vers",
    positive=(
        "super | bien | génial | merci | parfait | excellent | heureux | heureuse | content | "
        "contente | adore | magnifique | bravo | félicitations | top | formidable | ravi | "
        "ravie | chouette | sympa | merveilleux"
    ),
    negative=(
        "mal | mauvais* | cassé* | erreur | problème* | souci | panne | lent | retard | manque | "
        "triste | malheureusement | déçu* | plainte | difficile | inquiet | inquiète | perdu | "
        "pire | dommage | faux | bloqué* | dérange"
    ),
    angry=(
        "furieu* | en colère | inacceptable | nul | nulle | horrible | honte | honteux | "
        "scandaleux | ridicule | merde | déteste | arnaque | marre | avocat | plus jamais | "
        "incompétent* | inadmissible | lamentable | foutez de | n'importe quoi"
    ),
    negations="pas | jamais | aucun | aucune | sans | ni | rien | plus",
    injection=(
        "ignore les instructions précédentes | ignorez les instructions précédentes | "
        "ignore toutes les instructions | ignorez toutes les instructions | "
        "ignore tes instructions | ignorez vos instructions | ignore tout ce qui précède | "
        "oublie tes instructions | oubliez vos instructions | oublie toutes les instructions | "
        "ton prompt système | révèle ton prompt | note pour l'assistant | note à l'assistant | "
        "note pour l'ia | message pour l'ia | message à l'ia | à l'attention de l'ia | "
        "à l'attention de l'assistant ia | si tu es une ia | si vous êtes une ia | "
        "en tant qu'assistant tu dois | en tant qu'assistant vous devez | en tant qu'ia | "
        "instructions pour l'assistant | instructions pour l'ia"
    ),
    commits=(
        "j'ai | je vais | je t'envoie | je vous envoie | je m'en occupe | c'est fait | ^envoyé | "
        "^fait | c'est parti | ci-joint | nous avons envoyé | je l'ai | je ferai | je t'appelle | "
        "je suis | approuvé | validé | je le fais | je te | ça me va | à demain | "
        "à tout à l'heure"
    ),
    topics={
        "question": (
            "quelqu'un a | quelqu'un sait | qui a | qui sait | différence entre | "
            "quelle différence | tu sais où | savez-vous où | sais-tu | savez-vous | tu sais | "
            "comment faire | comment on | c'est quoi | où est | où se trouve | où puis-je | "
            "une question | petite question | pourquoi | quel est | quelle est | qui est | "
            "que signifie | est-ce possible | est-il possible | ça veut dire quoi | je me demande"
        ),
        "request": (
            "rappelle-moi | inscris-moi | signer | traduire | remplacer | aide-moi | prête-moi | "
            "virer | remplir | voter | commander | apporte | tu peux apporter | envoie-moi | "
            "envoyez-moi | j'ai besoin de ton | j'ai besoin de votre | valider | ta validation | "
            "votre validation | relire | merci de | ton accord | jeter un oeil | jeter un œil | "
            "transférer | veuillez | donne-moi | à prêter | prêter | me prêter | "
            "pourrais-je avoir | puis-je avoir | on a besoin de | j'ai besoin de | il manque | "
            "il me faut | qui peut | qui apporte | qui s'occupe | cherchons des bénévoles | "
            "ce serait bien si | peut-on utiliser | pouvons-nous utiliser"
        ),
        "scheduling": (
            "quand est-ce qu'on | quand peut-on | tu viens | vous venez | je passe | passer te | "
            "quel jour | tour de garde | échanger | réserver | on se retrouve | rdv à | "
            "tu arrives | on déjeune | on dîne | on se voit | prendre un café | un café demain | "
            "petit-déjeuner | un verre | faire le point | réunion | rendez-vous | rdv | agenda | "
            "calendrier | créneau | disponible | dispo | disponibilité* | à quelle heure | "
            "déplacer | reporter | décaler | se voir | déjeuner | visio | appel demain | "
            "ça te va | ça vous convient | te convient | vous convient | planifier | décalé | "
            "qu'on se voie | je peux passer | puis-je passer | je peux venir | tu peux venir | "
            "vous pouvez venir | quels jours | qui vient | es-tu libre | êtes-vous libre | "
            "tu es libre | jour de congé | qui a le temps | qui est partant | je suis partant | "
            "je serai en retard | ça m'arrange | quand puis-je"
        ),
        "incident": (
            "accident | incendie | fuite | inondation | coupure de courant | volé | vol de | "
            "blessé | hôpital | crevaison | évacu* | alarme | cambriolage | panne | en panne | "
            "hors service | incident | alerte | injoignable | inaccessible | perte de données | "
            "taux d'erreur | d'astreinte | est tombé | coupure | erreurs 500 | interruption | "
            "faille | ne répond plus | plantée"
        ),
        "sales": (
            "coûtent | à l'unité | en gros | vendre | fournisseur | commission | sponsor* | "
            "par mois | à vendre | collaboration | tva | acompte | conditions de paiement | "
            "devis | prix | tarif | tarifs | remise | contrat | acheter | achat | licence* | "
            "démo | démonstration | combien coûte | combien ça coûte | coûte | commander | "
            "offre commerciale | proposition commerciale | partenariat | renouvellement | "
            "en stock | vendez-vous | vous vendez | tu vends | revendeur* | commande minimum | "
            "intéressé par | souhaitons commander | je voudrais acheter | souhaite acheter | "
            "livrez-vous | vous livrez | précommande*"
        ),
        "support": (
            "remplacement | réparer | réparation | ne s'allume pas | ne démarre pas | "
            "j'ai perdu | ne trouve pas mon | mauvaise taille | service client | retourner | "
            "ne marche pas | ne fonctionne pas | marche pas | ne fonctionne plus | "
            "ne marche plus | message d'erreur | ma commande | mon compte | mot de passe | "
            "remboursement | rembourser | problème avec | plante | bloqué | me connecter | "
            "connexion | pas arrivé | pas reçu | pas encore reçu | endommagé* | garantie | "
            "installer | cassé | souci avec | colis | bug | n'arrive pas à | défectueu* | rayé | "
            "fissuré | grince | fait du bruit | personne ne me répond | personne ne répond | "
            "hotline | sav | réclamation | j'attends toujours | toujours pas reçu | sans réponse"
        ),
        "fyi": (
            "absent jusqu'au | en congé jusqu'au | nouvelle règle | désormais | dès lundi | "
            "petit point | voici les | voici le | photos de | reporté au | résultats | "
            "disponible maintenant | j'ai déposé | j'ai mis à jour | j'ai partagé | "
            "j'ai ajouté | pour info | pour information | à titre d'information | "
            "je vous informe | annonce | note de | newsletter | compte rendu | compte-rendu | "
            "à noter | à partir de | résumé de | publié | aucune action | fyi | est désormais | "
            "mise à jour | est en ligne | déployé | sera fermé | pas besoin de répondre | "
            "je te préviens | je vous préviens | sera absent | est fermé | petit rappel | "
            "est arrivé | est arrivée | sont arrivés | sont arrivées | de retour en stock | "
            "nouveaux horaires"
        ),
        "social": (
            "bien joué | fier | fière | trop mignon | mignon | maman | papa | mamie | papi | "
            "recette | délicieux | concert | chanson | il fait beau | chien | jardin | drôle | "
            "magnifique | c'était comment | bon voyage | santé | bisou | gros bisous | "
            "contente pour | joyeux anniversaire | anniversaire | félicitations | "
            "comment vas-tu | comment ça va | ça va | bonne nuit | joyeux noël | bonne année | "
            "je t'aime | mdr | apéro | bienvenue | bisous | tu me manques | bon appétit | "
            "bon rétablissement | bravo | bon week-end | gâteau | ma femme | mon mari | "
            "déguisement | quelle soirée | merci à tous | trop beau | que c'est beau | "
            "le match | ces vacances | tes vacances | vos vacances | ta fête | bonne chance | "
            "à bientôt | j'adore | trop fier | trop drôle | quelle journée | bon courage"
        ),
        "spam": (
            "cliquez ici | cliquez | vous avez gagné | gagnant | gagnez | gagner de l'argent | "
            "argent facile | gratuit | gratuitement | offre limitée | casino | crypto | "
            "bitcoin | revenus passifs | rendement garanti | garanti* | "
            "travaillez de chez vous | loterie | votre compte sera suspendu | "
            "vérifiez votre compte | cadeau | abonnés | prêt rapide | doublez | sans risque | "
            "plus d'abonnés"
        ),
    },
    hello="Bonjour {name},",
    acknowledge={
        "": "merci pour le message. Je regarde ça et je réponds ensuite.",
        "question": "merci pour la question. Je regarde ça et je réponds ensuite.",
        "request": "merci, j'ai vu la demande et je vais regarder.",
        "scheduling": "merci pour le message. Je regarde mon agenda et je réponds ensuite.",
        "incident": "merci pour l'information. Je vais regarder.",
        "support": "merci pour le signalement, et désolé pour la gêne. Je vais regarder.",
        "sales": "merci pour cet intérêt. Je regarde ça et je réponds ensuite.",
        "social": "merci pour le message !",
    },
    answer={
        "when": "Quand : {gap}.",
        "how_much": "Le montant : {gap}.",
        "where": "C'est ici : {gap}.",
        "who": "La bonne personne : {gap}.",
        "free": "Cela me conviendrait : {gap}.",
    },
    gaps={
        "date": "date",
        "time": "heure",
        "amount": "montant",
        "number": "nombre",
        "link": "lien",
        "email": "adresse e-mail",
        "phone": "téléphone",
        "order": "numéro de commande",
        "name": "nom",
        "place": "lieu ou lien",
        "address": "adresse",
        "file": "fichier",
        "when": "date ou heure",
        "how_much": "montant",
        "where": "lieu ou lien",
        "who": "nom",
        "free": "oui, non ou un autre moment",
        "secret": "secret",
    },
    asked={
        "when": "quand | à quelle heure | quel jour | pour quand | combien de temps | quelle date",
        "how_much": "combien | quel prix | quel tarif | le prix",
        "where": "où | le lien | quelle adresse",
        "who": "qui est | à qui | qui peut | qui s'occupe",
        "free": (
            "ça te va | ça vous va | te convient | vous convient | es-tu libre | "
            "êtes-vous libre | tu es libre | tu es dispo | es-tu dispo | se voir | reporter | "
            "décaler | déplacer"
        ),
    },
    summaries={
        "injection": (
            "{name} a envoyé un message avec des instructions pour un assistant ; non cité."
        ),
        "nothing": "{name} a envoyé quelque chose sans texte.",
        "files": "{name} a envoyé des fichiers : {files}",
    },
)
